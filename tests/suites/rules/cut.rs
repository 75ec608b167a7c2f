//! Rule 4, where nobody is told: packets between a gateway and its registry vanish.

use tests::{Config, Endpoint, Gateway, Host, Load, Namespace, Switch};

use crate::store::{HOST, Kind, Store, address, answers_from, await_link};

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
    // All that listens on the edge is also ended there.
    edge.run(|| goes_on(&switch, (&registry, &mut store), &edge, &config));
}

fn goes_on(switch: &Switch, (registry, store): (&Host, &mut Store), edge: &Host, config: &Config) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = Gateway::start(config);
    registry.run(|| store.register("c1", &a));
    answers_from(&gateway, &["a"]);

    let load = Load::start(gateway.web(), HOST, 2);
    switch.cut(registry);
    await_link(&gateway, false);
    registry.run(|| store.register("c2", &b));
    answers_from(&gateway, &["a"]);
    switch.mend(registry);
    answers_from(&gateway, &["a", "b"]);
    await_link(&gateway, true);
    load.stop().assert_undisturbed();

    // The cable of the gateway itself: its own session ends, and it comes back with another one.
    switch.pull(edge);
    await_link(&gateway, false);
    answers_from(&gateway, &["a", "b"]);
    registry.run(|| store.delete(&address("shop", "c1")));
    switch.plug(edge);
    answers_from(&gateway, &["b"]);
}

#[test]
fn a_gateway_that_is_cut_off_from_zookeeper_goes_on_and_catches_up() {
    is_cut_off(Kind::ZooKeeper);
}

#[test]
fn a_gateway_that_is_cut_off_from_etcd_goes_on_and_catches_up() {
    is_cut_off(Kind::Etcd);
}
