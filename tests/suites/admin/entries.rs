//! What is put is served; what is wrong is told whole and changes nothing.

use serde_json::json;
use tests::{Config, DEADLINE, Endpoint, Gateway, ZooKeeperServer, eventually};

use crate::api::Api;

const SHOP: &str = "/v1/config/apps/shop";

fn put_file(gateway: &Gateway, endpoint: &Endpoint) {
    let app = tests::App::new("back").host("back.test").endpoint("v1", "c1", endpoint.address());
    gateway.put_app(&app);
    eventually(DEADLINE, "the endpoint serves", || gateway.get("back.test", "/").status == 200);
}

#[test]
fn an_app_is_created_changed_and_deleted_and_requests_follow() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let created = api.put(SHOP, &json!({ "hosts": ["shop.test"] })).expect(201);
    assert_eq!(created.json["revision"], 1);
    assert_eq!(created.json["changes"][0]["action"], "create");
    // A host without endpoints is known, and says why it does not serve.
    eventually(DEADLINE, "the host is known", || gateway.get("shop.test", "/").status == 503);

    let shown = api.get(SHOP).expect(200);
    assert_eq!((&shown.etag, &shown.json["value"]), (&created.etag, &json!({ "hosts": ["shop.test"] })));
    let etag = shown.etag.unwrap();
    api.send("GET", SHOP, &[&format!("If-None-Match: {etag}")], None).expect(304);

    let changed = api.put(SHOP, &json!({ "hosts": ["other.test"] })).expect(200);
    assert_eq!(changed.json["changes"][0]["diff"][0]["path"], "hosts[0]");
    assert_ne!(changed.etag.as_deref(), Some(&*etag));
    eventually(DEADLINE, "the former host is gone", || gateway.get("shop.test", "/").status == 404);
    // The same again is no change.
    let same = api.put(SHOP, &json!({ "hosts": ["other.test"] })).expect(200);
    assert_eq!((&same.json["revision"], same.etag), (&serde_json::Value::Null, changed.etag));

    api.delete(SHOP).expect(200);
    api.get(SHOP).expect(404);
    api.delete(SHOP).expect(404);
    eventually(DEADLINE, "the host is unknown", || gateway.get("other.test", "/").status == 404);
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("sluice_admin_changes_total", &[("result", "made")]), 3);
    assert!(metrics.count("sluice_admin_requests_total", &[("role", "operate"), ("status", "2xx")]) >= 5);
}

#[test]
fn preconditions_are_honoured_and_the_present_etag_is_told() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let put = |field: &str, host: &str| api.send("PUT", SHOP, &[field], Some(&json!({ "hosts": [host] })));
    put("If-Match: *", "a.test").expect(412);
    let first = put("If-None-Match: *", "a.test").expect(201).etag.unwrap();
    let refused = put("If-None-Match: *", "b.test").expect(412);
    assert_eq!(
        (refused.etag.as_deref(), &refused.json["type"]),
        (Some(&*first), &json!("urn:sluice:conflict"))
    );
    let second = put(&format!("If-Match: {first}"), "b.test").expect(200).etag.unwrap();
    assert_eq!(put(&format!("If-Match: {first}"), "c.test").expect(412).etag.as_deref(), Some(&*second));
    put(&format!("If-Match: \"1\", {second}"), "d.test").expect(200);
    for none in ["If-Match: W/\"1\"", "If-Match: nonsense", "If-Match: \"18446744073709551615\""] {
        put(none, "e.test").expect(412);
    }
    put("If-None-Match: \"1\"", "e.test").expect(400);
    api.send("DELETE", SHOP, &[&format!("If-Match: {second}")], None).expect(412);
    assert_eq!(api.get(SHOP).json["value"]["hosts"][0], "d.test");
}

#[test]
fn all_mistakes_are_told_at_once_and_nothing_is_written() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let wrong =
        json!({ "hostz": [], "balance": "dice", "filters": { "redirects": [{ "from": "x", "to": "y" }] } });
    let refused = api.put(SHOP, &wrong).expect(422);
    for field in ["hostz", "balance", "filters.redirects[0].from", "filters.redirects[0].to"] {
        assert!(refused.mistakes().contains(&("app/shop", field)), "{field} in {}", refused.text);
    }
    // What only this gateway can say.
    let refused = api.put(SHOP, &json!({ "hosts": ["a.test"], "tls": { "profile": "none" } })).expect(422);
    assert_eq!(refused.mistakes(), [("app/shop", "tls.profile")], "{}", refused.text);

    let many = json!({ "entries": {
        "app/good": { "hosts": ["good.test"] },
        "app/bad": { "hostz": [] },
        "operator/good/v1/c1": { "state": "asleep" },
    } });
    let refused = api.post("/v1/config/apply", &many).expect(422);
    assert_eq!(
        refused.mistakes(),
        [("app/bad", "hostz"), ("operator/good/v1/c1", "state")],
        "{}",
        refused.text
    );
    let unknown = json!({ "entries": { "vip/10.0.0.1": {}, "history/000000000001": {} } });
    assert_eq!(api.post("/v1/config/apply", &unknown).expect(400).mistakes().len(), 2);
    assert_eq!(api.get("/v1/config").json["entries"], json!([]));
    assert_eq!(api.get("/v1/history").json["records"], json!([]));
}

#[test]
fn a_dry_run_tells_what_would_change_and_writes_nothing() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let told = api.put(&format!("{SHOP}?dry_run=true"), &json!({ "hosts": ["a.test"] })).expect(200);
    assert_eq!((&told.json["dry_run"], &told.json["changes"][0]["action"]), (&json!(true), &json!("create")));
    api.get(SHOP).expect(404);
    let many = json!({ "dry_run": true, "entries": { "app/shop": {}, "app/blog": null } });
    assert_eq!(api.post("/v1/config/apply", &many).expect(200).json["changes"].as_array().unwrap().len(), 1);
    api.get(SHOP).expect(404);
}

#[test]
fn many_entries_change_at_once_and_a_stale_etag_stops_them() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let before = api.get("/v1/config").expect(200).etag.unwrap();
    let entries = json!({ "app/a": { "hosts": ["a.test"] }, "app/b": { "hosts": ["b.test"] } });
    let made = api
        .post("/v1/config/apply", &json!({ "entries": entries, "if_match": before, "message": "both" }))
        .expect(200);
    assert_eq!(
        (made.json["revision"].as_u64(), made.json["changes"].as_array().unwrap().len()),
        (Some(1), 2)
    );
    let stale = json!({ "entries": { "app/a": null }, "if_match": before });
    api.post("/v1/config/apply", &stale).expect(412);
    let pruning = json!({ "entries": { "app/b": { "hosts": ["b.test"] } }, "prune": true });
    let pruned = api.post("/v1/config/apply", &pruning).expect(200);
    assert_eq!(
        (&pruned.json["changes"][0]["key"], &pruned.json["changes"][0]["action"]),
        (&json!("app/a"), &json!("delete"))
    );
    assert_eq!(api.get("/v1/config?prefix=app/").json["entries"].as_array().unwrap().len(), 1);
    // A write can be waited for until every gateway has it.
    let revision = pruned.json["registry_revision"].as_u64().unwrap();
    assert_eq!(gateway.admin_get(&format!("/v1/revisions?applied={revision}&timeout=20")).status, 200);
}

#[test]
fn hostile_requests_are_refused_within_bounds() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let wide: Vec<_> = (0..101).map(|n| (format!("app/a{n}"), json!({}))).collect();
    let wide = json!({ "entries": serde_json::Map::from_iter(wide) });
    api.post("/v1/config/apply", &wide).expect(413);
    let long = json!({ "entries": { "app/a": { "hosts": ["x".repeat(3 << 20)] } } });
    api.post("/v1/config/apply", &long).expect(413);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let head = format!("PUT {SHOP} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let mut client = tests::RawClient::connect(gateway.admin());
    client.send(format!("{head}Content-Length: {}\r\n\r\n{deep}", deep.len()));
    assert_eq!(client.receive().status, 400);
    let mut form = tests::RawClient::connect(gateway.admin());
    form.send(format!("PUT {SHOP} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert_eq!(form.receive().status, 415);
    api.put("/v1/config/apps/..%2fx", &json!({})).expect(400);
    api.put("/v1/config/hosts/x", &json!({})).expect(404);
    api.put(&format!("{SHOP}?dryrun=true"), &json!({})).expect(400);
    api.put(&format!("{SHOP}?message={}", "x".repeat(1_001)), &json!({})).expect(400);
    api.send("PUT", SHOP, &["Origin: https://evil.test"], Some(&json!({}))).expect(403);
    let stranger = tests::RawClient::connect(gateway.admin()).get("evil.test", "/v1/config");
    assert_eq!(stranger.status, 403);
    assert_eq!(api.get("/v1/config").json["entries"], json!([]));
}

#[test]
fn a_files_app_is_warned_of_and_a_shared_host_too() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    put_file(&gateway, &endpoint);
    let made = api.put("/v1/config/apps/back", &json!({ "hosts": ["x.test"] })).expect(201);
    assert!(made.json["warnings"][0].as_str().unwrap().contains("a file"), "{}", made.text);
    let made = api.put(SHOP, &json!({ "hosts": ["back.test"] })).expect(201);
    assert!(made.json["warnings"][0].as_str().unwrap().contains("back.test"), "{}", made.text);
}

#[test]
fn two_gateways_of_one_zookeeper_serve_what_either_was_told() {
    let server = ZooKeeperServer::start();
    let gateway = |id: &str| Gateway::start(&Config::new().id(id).zookeeper(&server.address().to_string()));
    let (one, two) = (gateway("gw-1"), gateway("gw-2"));
    let first = Api::of(&one).put(SHOP, &json!({ "hosts": ["shop.test"] })).expect(201).etag.unwrap();
    eventually(DEADLINE, "both serve it", || {
        [&one, &two].iter().all(|gateway| gateway.get("shop.test", "/").status == 503)
    });
    // Of two who change the same version one is first, wherever they ask.
    let put = |gateway: &Gateway| {
        let field = format!("If-Match: {first}");
        Api::of(gateway).send("PUT", SHOP, &[&field], Some(&json!({ "hosts": ["again.test"] }))).status
    };
    assert_eq!((put(&two), put(&one)), (200, 412));
    let many = json!({ "entries": { "app/shop": null, "app/blog": { "hosts": ["blog.test"] } } });
    let applied = Api::of(&one).post("/v1/config/apply", &many).expect(200);
    assert_eq!(applied.json["revision"], 3);
    let back = Api::of(&two).post("/v1/rollback", &json!({ "to": 1 })).expect(200);
    assert_eq!(back.json["revision"], 4, "{}", back.text);
    eventually(DEADLINE, "both are back", || {
        [&one, &two].iter().all(|gateway| {
            gateway.get("shop.test", "/").status == 503 && gateway.get("blog.test", "/").status == 404
        })
    });
    assert_eq!(Api::of(&two).get("/v1/history").json["records"].as_array().unwrap().len(), 4);
}
