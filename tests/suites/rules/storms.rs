//! Rules 4 and 7: whatever a registry has to tell at once, requests notice nothing of it.

use tests::{Endpoint, Gateway, Load};

use crate::store::{HOST, Kind, Store, address, answers_from};

fn is_stormed(kind: Kind) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut store = Store::start(kind);
    let gateway = Gateway::start(&store.config(store.address()));
    store.register("c1", &a);
    answers_from(&gateway, &["a"]);
    let load = Load::start(gateway.web(), HOST, 2);
    // The last write is what counts, however many there were before.
    store.storm(&address("shop", "c1"), &b.address().to_string());
    answers_from(&gateway, &["b"]);
    load.stop().assert_undisturbed();
}

#[test]
fn a_storm_of_zookeepers_watches_disturbs_nobody() {
    is_stormed(Kind::ZooKeeper);
}

#[test]
fn a_storm_of_etcds_watches_disturbs_nobody() {
    is_stormed(Kind::Etcd);
}
