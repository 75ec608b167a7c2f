//! Routes without an app.

use serde_json::json;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::api::Api;

#[test]
fn a_route_redirects_or_answers_and_apps_of_the_host_go_on() {
    let endpoint = Endpoint::start("shop");
    let app = App::new("shop").host("shop.test").endpoint("v1", "c1", endpoint.address());
    let gateway = Gateway::start(&Config::new().app(&app));
    let api = Api::of(&gateway);
    let old = json!({ "hosts": ["old.test"], "paths": ["/a"], "redirect": { "to": "https://shop.test/b", "status": 301 } });
    let robots = json!({
        "hosts": ["shop.test"], "paths": ["=/robots.txt"],
        "respond": { "status": 200, "content_type": "text/plain", "body": "User-agent: *\n" },
    });
    let both = json!({ "entries": { "route/old": old, "route/robots": robots } });
    api.post("/v1/config/apply", &both).expect(200);
    eventually(DEADLINE, "the routes are served", || gateway.get("old.test", "/a").status == 301);
    let moved = gateway.get("old.test", "/a/x?q=1");
    assert_eq!(moved.fields.get("location"), Some("https://shop.test/b/x?q=1"));
    assert_eq!(gateway.get("old.test", "/c").status, 404);
    let answer = gateway.get("shop.test", "/robots.txt");
    assert_eq!((answer.status, answer.text().as_str()), (200, "User-agent: *\n"));
    assert_eq!(answer.fields.get("content-type"), Some("text/plain"));
    assert_eq!(answer.fields.get("x-sluice-reason"), Some("fixed_response"));
    assert_eq!(gateway.get("shop.test", "/").text(), "shop");
    eventually(DEADLINE, "requests are counted by route", || {
        let labels = [("app", "route:robots"), ("reason", "fixed_response"), ("status", "2xx")];
        gateway.metrics().count("sluice_requests_total", &labels) == 1
    });

    // 304 and 204 have no content, whatever is configured.
    api.put(
        "/v1/config/routes/robots",
        &json!({ "hosts": ["shop.test"], "paths": ["=/robots.txt"], "respond": { "status": 204 } }),
    )
    .expect(200);
    eventually(DEADLINE, "the route has changed", || gateway.get("shop.test", "/robots.txt").status == 204);
    let refused = api
        .put(
            "/v1/config/routes/robots",
            &json!({ "hosts": ["x.test"], "respond": { "status": 42 }, "balance": "random" }),
        )
        .expect(422);
    assert_eq!(
        refused.mistakes(),
        [("route/robots", "respond.status"), ("route/robots", "balance")],
        "{}",
        refused.text
    );
    api.delete("/v1/config/routes/robots").expect(200);
    eventually(DEADLINE, "the app has its path again", || {
        gateway.get("shop.test", "/robots.txt").text() == "shop"
    });
}

#[test]
fn certificates_are_texts_and_want_keys_to_be_sealed_with() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let refused = api.put("/v1/config/certificates/shop", &json!({ "pem": "x" })).expect(422);
    assert!(refused.text.contains("must be a text: chain and key in PEM"), "{}", refused.text);
    let refused = api.put("/v1/config/certificates/shop", &json!("x")).expect(422);
    assert!(refused.text.contains("registry.key_file"), "{}", refused.text);
}
