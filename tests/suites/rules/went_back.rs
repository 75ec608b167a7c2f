//! Rule 4, of registries that answer and are wrong: one that comes back empty, and one that comes back as it was once. (A
//! cluster of other servers at the same address: suite `doubt`.)

use tests::{Endpoint, Gateway, Load, RawClient, eventually};

use crate::store::{HOST, Kind, RECOVERY, Store, address, answers_from, await_saved};

const SPEC: &str = r#"{"health": {"path": "/", "interval": "200ms", "timeout": "200ms", "fall": 1}}"#;
const LATER_SPEC: &str = r#"{"hosts": ["shop.apps.test", "late.test"], "health": {"path": "/", "interval": "200ms", "timeout": "200ms"}}"#;
const OTHERS: [&str; 3] = ["blog", "news", "mail"];

fn is_doubted(gateway: &Gateway) -> bool {
    gateway.metrics().sum("sluice_registry_doubted", &[]) > Some(0.0)
}

#[track_caller]
fn accept(gateway: &Gateway) {
    let mut admin = RawClient::connect(gateway.admin());
    admin.send("POST /v1/registry/accept HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(admin.receive().status, 200);
}

fn fill(store: &mut Store, endpoint: &Endpoint) {
    store.put("app/shop", SPEC);
    store.register("c1", endpoint);
    for app in OTHERS {
        store.put(&address(app, "c1"), &endpoint.address().to_string());
    }
}

fn comes_back_empty(kind: Kind) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut store = Store::start(kind);
    let gateway = Gateway::start(&store.config(store.address()));
    fill(&mut store, &a);
    answers_from(&gateway, &["a"]);
    await_saved(&gateway, "shop/v1/c1");
    let load = Load::start(gateway.web(), HOST, 2);
    store.lose_data();
    eventually(RECOVERY, "the registry is doubted", || is_doubted(&gateway));
    answers_from(&gateway, &["a"]);
    // What is registered from then on counts, and what was there does until somebody says that it is over.
    store.register("c2", &b);
    answers_from(&gateway, &["a", "b"]);
    load.stop().assert_undisturbed();
    accept(&gateway);
    answers_from(&gateway, &["b"]);
    eventually(RECOVERY, "the registry is believed", || !is_doubted(&gateway));
}

#[test]
fn a_zookeeper_that_comes_back_empty_takes_nothing_away() {
    comes_back_empty(Kind::ZooKeeper);
}

#[test]
fn an_etcd_that_comes_back_empty_takes_nothing_away() {
    comes_back_empty(Kind::Etcd);
}

fn comes_back_older(kind: Kind) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut store = Store::start(kind);
    let gateway = Gateway::start(&store.config(store.address()));
    fill(&mut store, &a);
    answers_from(&gateway, &["a"]);
    store.keep_data();
    // After the copy: another endpoint, another spec.
    store.register("c1", &b);
    store.put("app/shop", LATER_SPEC);
    eventually(RECOVERY, "the late host answers", || gateway.get("late.test", "/").text() == "b");
    await_saved(&gateway, "late.test");
    let load = Load::start(gateway.web(), "late.test", 2);
    store.return_to_kept();
    eventually(RECOVERY, "the registry is doubted", || is_doubted(&gateway));
    answers_from(&gateway, &["b"]);
    assert_eq!(gateway.get("late.test", "/").text(), "b");
    load.stop().assert_undisturbed();
    accept(&gateway);
    answers_from(&gateway, &["a"]);
    assert_eq!(gateway.get("late.test", "/").status, 404);
}

#[test]
fn a_zookeeper_that_was_rolled_back_takes_nothing_away() {
    comes_back_older(Kind::ZooKeeper);
}

#[test]
fn an_etcd_that_was_rolled_back_takes_nothing_away() {
    comes_back_older(Kind::Etcd);
}
