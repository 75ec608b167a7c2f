//! Tokens and roles.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually, finish, sluice};

use crate::api::Api;

/// A token and its line.
fn token(arguments: &[&str]) -> (String, String) {
    let report = finish(sluice().args(["token", "new"]).args(arguments), "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    let line = report.stderr.lines().last().expect("the line is the last").to_owned();
    (report.stdout.trim().to_owned(), line)
}

fn store(gateway: &Gateway, lines: &[&str]) {
    // Written beside and moved: nobody reads half of it.
    let (path, beside) = (gateway.folder().join("tokens"), gateway.folder().join("tokens.new"));
    std::fs::write(&beside, lines.join("\n") + "\n").expect("the folder is ours");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    std::fs::rename(beside, path).expect("the folder is ours");
}

/// With these tokens from its start on: a client that is too early would be taken for one that guesses.
fn gateway(lines: &[&str], more: &str) -> Gateway {
    let tokens = format!("# ours\n{}\n", lines.join("\n"));
    Gateway::start(&Config::new().file("tokens", &tokens).admin("tokens = \"tokens\"").admin(more))
}

#[test]
fn roles_are_enforced_and_authors_recorded() {
    let endpoint = Endpoint::start("a");
    let (reader, reads) = token(&["grafana", "--role", "read"]);
    let (operator, operates) = token(&["alice@ops", "--role", "operate", "--expires", "never"]);
    let (tenant, tenants) = token(&["ci-shop", "--role", "tenant", "--app", "shop", "--expires", "30d"]);
    let (old, expired) = token(&["bob", "--role", "operate", "--expires", "2020-01-01T00:00:00Z"]);
    let gateway = gateway(&[&reads, &operates, &tenants, &expired], "require_token = true");
    gateway.put_app(&App::new("blog").host("blog.test").endpoint("v1", "c1", endpoint.address()));
    let [reader, operator, tenant, old] =
        [reader, operator, tenant, old].map(|token| Api::with_token(&gateway, &token));
    reader.get("/v1/config").expect(200);

    // Nobody without one, but for load balancers.
    let nobody = Api::of(&gateway);
    let refused = nobody.get("/v1/config").expect(401);
    assert!(refused.text.contains("show a token"), "{}", refused.text);
    nobody.get("/metrics").expect(401);
    assert_eq!((nobody.get("/live").status, nobody.get("/ready").status), (200, 200));
    assert!(old.get("/v1/config").expect(401).text.contains("expired"));

    // A reader reads.
    assert_eq!(reader.get("/metrics").status, 200);
    reader.put("/v1/config/apps/shop", &json!({})).expect(403);
    reader.post("/v1/rollback", &json!({ "to": 0 })).expect(403);
    reader.post("/v1/registry/accept", &json!({})).expect(403);

    // A tenant has its app and sees no other.
    operator.put("/v1/config/apps/other", &json!({ "hosts": ["other.test"] })).expect(201);
    tenant.put("/v1/config/apps/shop", &json!({ "hosts": ["shop.test"] })).expect(201);
    tenant.put("/v1/config/operators/shop/v1/c1", &json!({ "state": "drain" })).expect(201);
    tenant.put("/v1/config/apps/other", &json!({})).expect(403);
    tenant.get("/v1/config/apps/other").expect(403);
    tenant.put("/v1/config/routes/shop", &json!({})).expect(403);
    tenant.post("/v1/config/apply", &json!({ "entries": { "app/shop": {}, "app/other": null } })).expect(403);
    let listed = tenant.get("/v1/config").expect(200).json;
    let keys: Vec<_> =
        listed["entries"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["app/shop", "operator/shop/v1/c1"]);
    tenant.get("/v1/apps").expect(403);
    tenant.get("/v1/apps?app=blog").expect(403);
    tenant.get("/v1/apps?app=shop&app=blog").expect(403);
    assert_eq!(tenant.get("/v1/apps?app=shop").status, 200);
    for path in ["/metrics", "/v1/table", "/v1/revisions", "/v1/process", "/v1/certificates"] {
        tenant.get(path).expect(403);
    }
    // What becomes of its requests, and of nobody else's.
    let told = tenant.get("/v1/explain?app=shop&url=http://shop.test/").expect(200).json;
    assert_eq!((&told["app"], &told["outcome"]["reason"]), (&json!("shop"), &json!("no_endpoint")), "{told}");
    tenant.get("/v1/explain?url=http://shop.test/").expect(403);
    tenant.get("/v1/explain?app=other&url=http://other.test/").expect(403);
    let foreign = tenant.get("/v1/explain?app=shop&url=http://other.test/").expect(404).text;
    let unknown = tenant.get("/v1/explain?app=shop&url=http://nobody.test/").expect(404).text;
    assert_eq!(foreign, unknown, "whether it is anybody's is not told");
    // Pruning and rolling back end where its apps do.
    tenant
        .post(
            "/v1/config/apply",
            &json!({ "entries": { "app/shop": { "hosts": ["s.test"] } }, "prune": true }),
        )
        .expect(200);
    tenant.get("/v1/history/1").expect(404);
    assert_eq!(tenant.get("/v1/history").json["records"].as_array().unwrap().len(), 3);
    tenant.post("/v1/rollback", &json!({ "to": 0 })).expect(200);
    operator.get("/v1/config/apps/shop").expect(404);
    operator.get("/v1/config/apps/other").expect(200);

    assert_eq!(operator.send("POST", "/v1/registry/accept", &[], None).status, 200);
    let records = operator.get("/v1/history").expect(200).json;
    let authors: Vec<_> =
        records["records"].as_array().unwrap().iter().map(|one| one["author"].as_str().unwrap()).collect();
    assert_eq!(authors, ["ci-shop", "ci-shop", "ci-shop", "ci-shop", "alice@ops"]);
    // Each change and each refusal left a line.
    let log = gateway.output();
    for words in [
        &["sluice::audit", "configuration changed", "ci-shop", "create app/shop"][..],
        &["sluice::audit", "admin action", "alice@ops", "POST /v1/registry/accept", "\"status\":200"],
        &["sluice::audit", "admin request refused", "grafana", "\"reason\":\"role\""],
        &["sluice::audit", "admin request refused", "expired_token"],
    ] {
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} in\n{log}");
    }
    assert!(!log.contains("sluice_"), "no token is in the log");
}

#[test]
fn guessing_is_counted_and_ends_in_a_lock() {
    let (token, line) = token(&["alice", "--role", "operate"]);
    let gateway = gateway(&[&line], "");
    let right = Api::with_token(&gateway, &token);
    right.get("/v1/config").expect(200);
    let mut statuses = Vec::new();
    for guess in 0..12 {
        statuses.push(Api::with_token(&gateway, &format!("sluice_{guess}")).get("/v1/config").status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    // Who needs no token is not concerned.
    let open = Api::of(&gateway);
    open.get("/v1/config").expect(200);
    let denied = |reason| gateway.metrics().count("sluice_admin_denied_total", &[("reason", reason)]);
    assert!(denied("bad_token") >= 6 && denied("locked_out") >= 1);
}

#[test]
fn a_token_that_is_taken_out_of_the_file_is_none() {
    let (token, line) = token(&["alice", "--role", "read"]);
    let gateway = gateway(&[&line], "");
    let api = Api::with_token(&gateway, &token);
    api.get("/v1/config").expect(200);
    // A file that cannot be used changes nothing, and says so.
    store(&gateway, &["nonsense"]);
    eventually(DEADLINE, "it is told", || gateway.output().contains("tokens rejected"));
    api.get("/v1/config").expect(200);
    store(&gateway, &["# nobody"]);
    eventually(DEADLINE, "it is none", || api.get("/v1/config").status == 401);
}

#[test]
fn what_would_open_the_admin_api_to_everybody_is_refused_with_the_fix() {
    for (section, told) in [
        ("address = \"0.0.0.0:9901\"", "admin.address: 0.0.0.0:9901 is no loopback address"),
        ("address = \"127.0.0.1:0\"\nrequire_token = true", "admin.require_token: needs to know the tokens"),
        ("address = \"127.0.0.1:0\"\ntokens = \"none\"", "admin.tokens: "),
        ("address = \"unix:a.sock\"\nsocket = \"b.sock\"", "admin.socket: address names a socket already"),
        ("socket = \"a.sock\"\ntls = { certificates = [\"a.pem\"] }", "admin.tls: is for an address"),
        ("address = \"192.0.2.1:9901\"\ntls = { certificates = [\"a.pem\"] }", "admin.tls: lets nobody in"),
        ("tokens = \"none\"", "admin.address: is missing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        let listener =
            "[[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
        std::fs::write(&path, format!("{listener}[admin]\n{section}\n")).unwrap();
        let report = finish(sluice().args(["check", "--config"]).arg(&path), "", DEADLINE);
        assert_eq!(report.code, Some(1), "{section}: {}", report.text());
        assert!(report.stderr.contains(told), "{section}: {}", report.text());
    }
}
