//! Rule 6: health is keyed by (app, version, instance), never by address alone.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, Reply, eventually};

#[test]
fn apps_at_one_address_are_judged_each_by_its_own_probes() {
    let endpoint = Endpoint::behaving("c1", |request| match &*request.target {
        "/sick" => Reply::Answer(500, Vec::new(), Vec::new()),
        _ => Reply::ok("c1"),
    });
    let app = |id: &str, path: &str| {
        let app = App::new(id).host(&format!("{id}.test")).probed().health(&format!("path = {path:?}"));
        app.endpoint("v1", "c1", endpoint.address())
    };
    let config = Config::new().app(&app("well", "/well")).app(&app("sick", "/sick"));
    let gateway = Gateway::start(&config);
    let state = |app: &str| {
        let shown = gateway.admin_json(&format!("/v1/endpoints?app={app}"));
        (shown["items"][0]["state"].clone(), shown["items"][0]["why"].clone())
    };
    eventually(DEADLINE, "one of them is found out", || gateway.get("sick.test", "/").status == 503);
    assert_eq!(gateway.get("well.test", "/").text(), "c1");
    assert_eq!(state("well").0, "up");
    let (down, why) = state("sick");
    assert_eq!(down, "down");
    assert!(why.as_str().is_some_and(|why| why.contains("500")), "{why}");
}
