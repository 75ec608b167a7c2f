//! Rule 1: a request reads one table from its first byte to its log line.

use serde_json::Value;
use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Reply, eventually};

#[test]
fn a_request_is_retried_and_logged_by_the_table_that_it_began_with() {
    let gate = Gate::default();
    let closed = gate.clone();
    let dying = Endpoint::behaving("dying", move |_| {
        closed.pass();
        Reply::Reset
    });
    let (former, next) = (Endpoint::start("former"), Endpoint::start("next"));
    let shop = || App::new("shop").host("shop.test");
    // The heavier one is asked first.
    let app = shop().weighted("v1", "c1", dying.address(), 1_000).weighted("v1", "c2", former.address(), 1);
    let gateway = Gateway::start(&Config::new().access_log("access.log", "json").app(&app));
    let mut client = gateway.connect();
    client.send("GET /old HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || dying.requests() == 1);
    // Another version, another endpoint, and nothing of what there was.
    gateway.put_app(&shop().endpoint("v2", "c9", next.address()));
    // Not by a request: the former table would have it wait at the gate.
    eventually(DEADLINE, "the next table is in force", || {
        gateway.admin_get("/v1/endpoints?app=shop").text().contains("\"c9\"")
    });
    gate.open();
    assert_eq!(client.receive().text(), "former", "it was retried where its own table says");
    assert_eq!(client.get("shop.test", "/new").text(), "next");
    let entry = |path: &str| -> Option<Value> {
        let log = std::fs::read_to_string(gateway.folder().join("access.log")).ok()?;
        let mut entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.find(|entry| entry["path"] == path)
    };
    eventually(DEADLINE, "both are logged", || entry("/old").is_some() && entry("/new").is_some());
    let told = |path| entry(path).map(|entry| (entry["version"].clone(), entry["instance"].clone()));
    assert_eq!(told("/old"), Some(("v1".into(), "c2".into())));
    assert_eq!(told("/new"), Some(("v2".into(), "c9".into())));
}
