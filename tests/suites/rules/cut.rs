//! Rule 4, where nobody is told: packets between a gateway and its registry vanish.

use std::net::SocketAddr;

use tests::{Endpoint, Gateway, Load, Namespace, Switch, eventually};

use crate::store::{HOST, Kind, RECOVERY, Store, address, answers_from, await_link};

const REGISTRY: &str = "10.89.0.8";

fn is_cut_off(kind: Kind) {
    if !Namespace::available() {
        return;
    }
    let switch = Switch::new();
    let registry = switch.host("registry", &[&format!("{REGISTRY}/24")]);
    let edge = switch.host("edge", &["10.89.0.1/24"]);
    let mut store = registry.run(|| Store::start_at(kind, REGISTRY.parse().unwrap()));
    let config = store.config(store.address());
    let (a, b) = edge.run(|| (Endpoint::start("a"), Endpoint::start("b")));
    let put = |store: &mut Store, instance: &str, to: SocketAddr| {
        registry.run(|| store.put(&address("shop", instance), &to.to_string()));
    };
    let gateway = edge.run(|| Gateway::start(&config));
    put(&mut store, "c1", a.address());
    edge.run(|| answers_from(&gateway, &["a"]));

    let load = edge.run(|| Load::start(gateway.web(), HOST, 2));
    switch.cut(&registry);
    edge.run(|| await_link(&gateway, false));
    put(&mut store, "c2", b.address());
    edge.run(|| answers_from(&gateway, &["a"]));
    switch.mend(&registry);
    edge.run(|| {
        answers_from(&gateway, &["a", "b"]);
        await_link(&gateway, true);
    });
    load.stop().assert_undisturbed();

    // The cable of the gateway itself: its own session ends, and it comes back with another one.
    switch.pull(&edge);
    edge.run(|| {
        await_link(&gateway, false);
        answers_from(&gateway, &["a", "b"]);
    });
    registry.run(|| store.delete(&address("shop", "c1")));
    switch.plug(&edge);
    edge.run(|| {
        eventually(RECOVERY, "the registry is obeyed again", || gateway.get(HOST, "/").text() == "b");
        answers_from(&gateway, &["b"]);
    });
}

#[test]
fn a_gateway_that_is_cut_off_from_zookeeper_goes_on_and_catches_up() {
    is_cut_off(Kind::ZooKeeper);
}

#[test]
fn a_gateway_that_is_cut_off_from_etcd_goes_on_and_catches_up() {
    is_cut_off(Kind::Etcd);
}
