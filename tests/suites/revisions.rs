//! Every gateway says what it runs, and whoever changes something can wait until all have it.

use std::time::Duration;

use serde_json::Value;
use tests::{Config, DEADLINE, Endpoint, EtcdServer, Gateway, RawClient, eventually};

const HOST: &str = "shop.apps.test";
/// Leases of the test's gateways last 4 s.
const BEYOND_SESSION: Duration = Duration::from_secs(20);

fn gateway(server: &EtcdServer, id: &str) -> Gateway {
    Gateway::start(&Config::new().id(id).etcd(&server.address().to_string()))
}

fn revisions(gateway: &Gateway, query: &str) -> (u16, Value) {
    let response = RawClient::connect(gateway.admin()).get("localhost", &format!("/v1/revisions{query}"));
    (response.status, serde_json::from_slice(&response.body).expect("it is JSON"))
}

fn ids(shown: &Value) -> Vec<&str> {
    let gateways = shown["gateways"].as_array().into_iter().flatten();
    gateways.filter_map(|gateway| gateway["id"].as_str()).collect()
}

#[test]
fn a_change_is_waited_for_until_every_gateway_has_applied_it() {
    let a = Endpoint::start("a");
    let server = EtcdServer::start();
    let (one, two) = (gateway(&server, "gw-1"), gateway(&server, "gw-2"));
    eventually(DEADLINE, "both report", || ids(&revisions(&one, "").1) == ["gw-1", "gw-2"]);
    for round in 0..5 {
        let address = format!("{}{}", a.address(), " ".repeat(round));
        // A value that means the same as before has to be waited for too.
        let revision = server.put("/caas/service/address/shop/v1/c1", &address);
        let (status, shown) = revisions(&one, &format!("?applied={revision}&timeout=20"));
        assert_eq!(status, 200, "{shown}");
        for gateway in [&one, &two] {
            assert_eq!(gateway.get(HOST, "/").text(), "a");
        }
    }
    // What is refused is applied too, and every gateway says why.
    let refused = server.put("/caas/app/shop", "{\"hostz\": []}");
    let (status, shown) = revisions(&two, &format!("?applied={refused}"));
    assert_eq!(status, 200, "{shown}");
    for gateway in shown["gateways"].as_array().unwrap() {
        assert!(gateway["rejected"]["app/shop"].as_str().unwrap().contains("hostz"), "{gateway}");
        assert_eq!(gateway["rejected_total"], 1);
    }
    // Reports are no changes of apps: nobody reports because others have.
    let settled = server.revision();
    assert_eq!(revisions(&one, "").1["gateways"], revisions(&two, "").1["gateways"]);
    assert_eq!(server.revision(), settled);
}

#[test]
fn who_waits_for_too_long_is_told_and_who_is_gone_is_not_waited_for() {
    let server = EtcdServer::start();
    let (one, mut two) = (gateway(&server, "gw-1"), gateway(&server, "gw-2"));
    eventually(DEADLINE, "both report", || ids(&revisions(&one, "").1) == ["gw-1", "gw-2"]);
    let (status, shown) = revisions(&one, "?applied=1000000&timeout=0");
    assert_eq!((status, ids(&shown).len()), (504, 2));
    let response = RawClient::connect(one.admin()).get("localhost", "/v1/revisions?timeout=301");
    let told = response.text();
    assert!(response.status == 400 && told.contains("timeout: write 0 to 300 seconds"), "{told}");
    two.kill();
    eventually(BEYOND_SESSION, "it is gone", || ids(&revisions(&one, "").1) == ["gw-1"]);
}
