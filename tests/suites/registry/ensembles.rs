//! Three servers, of which one is lost.

use std::sync::Arc;

use discovery::registry::{Expect, Link, Registry};
use discovery::zookeeper;
use tests::{DEADLINE, EtcdServer, Kazoo, ZooKeeperServer, eventually};

use crate::fixture::{
    SESSION_TIMEOUT, SHORT_SESSION, await_link, await_loss, await_value, connect_as, connect_to_etcd,
    contents, read, state, write, write_for_session,
};

const ADDRESS: &str = "service/address/shop/v1/c1";
const PATH: &str = "/caas/service/address/shop/v1/c1";

/// Writes until the servers have agreed on who leads.
#[track_caller]
fn insist(registry: &dyn Registry, path: &str, value: &'static str) {
    eventually(DEADLINE, "the servers take a write", || write(registry, path, value, Expect::Any).is_ok());
}

/// What holds when one of three is gone: everything that was, everything that is written from then on, and
/// what was registered for the session.
#[track_caller]
fn assert_nothing_is_lost(registry: &dyn Registry) {
    insist(registry, "app/shop", "2");
    await_link(registry);
    await_value(registry, "app/shop", Some("2"));
    let wanted = [("app/blog", "1"), ("app/shop", "2"), (ADDRESS, "10.0.0.1:80")];
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(contents(&state(registry)), wanted);
    assert!(read(registry, ADDRESS).unwrap().ephemeral);
}

fn fill(registry: &dyn Registry) {
    insist(registry, "app/blog", "1");
    insist(registry, "app/shop", "1");
    write_for_session(registry, ADDRESS, "10.0.0.1:80").unwrap();
    await_value(registry, ADDRESS, Some("10.0.0.1:80"));
}

#[test]
fn an_ensemble_that_loses_its_leader_loses_nothing() {
    let (mut servers, _ports) = ZooKeeperServer::ensemble(3);
    let addresses = servers.iter().map(|server| server.address().to_string()).collect();
    let registry = connect_as(zookeeper::Settings {
        session_timeout: SESSION_TIMEOUT,
        ..zookeeper::Settings::new(addresses)
    });
    await_link(&*registry);
    fill(&*registry);
    let leader = servers.iter().position(ZooKeeperServer::leads).unwrap();
    servers[leader].kill();
    assert_nothing_is_lost(&*registry);

    servers[leader].restart();
    eventually(DEADLINE, "somebody leads", || servers.iter().any(ZooKeeperServer::leads));
    let mut kazoo = Kazoo::connect(&servers[leader], SESSION_TIMEOUT);
    kazoo.set("/caas/app/shop", b"3").unwrap();
    await_value(&*registry, "app/shop", Some("3"));
    assert_ne!(kazoo.get(PATH).unwrap().unwrap().owner, 0);
}

#[test]
fn a_cluster_that_loses_its_leader_loses_nothing() {
    let mut servers = EtcdServer::cluster(3);
    let addresses: Vec<_> = servers.iter().map(|server| server.address().to_string()).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let registry = connect_to_etcd(&addresses, SESSION_TIMEOUT);
    await_link(&*registry);
    fill(&*registry);
    let leader = servers.iter().position(EtcdServer::leads).unwrap();
    let lease = servers[leader].lease(PATH);
    servers[leader].kill();
    assert_nothing_is_lost(&*registry);
    let other = &servers[(leader + 1) % servers.len()];
    assert_eq!(other.lease(PATH), lease, "the session went on");

    servers[leader].restart();
    servers[leader].ctl(&["put", "/caas/app/shop", "3"]);
    await_value(&*registry, "app/shop", Some("3"));
}

#[test]
fn a_member_that_is_cut_off_from_the_others_is_left() {
    let mut servers = EtcdServer::cluster(3);
    let lonely = servers.iter().position(|server| !server.leads()).unwrap();
    let lonely = servers.swap_remove(lonely);
    // Connected to that one alone, then with the others to go to.
    let to_one = connect_to_etcd(&[&lonely.address().to_string()], SHORT_SESSION);
    await_link(&*to_one);
    write(&*to_one, "app/shop", "1", Expect::Any).unwrap();
    await_value(&*to_one, "app/shop", Some("1"));
    servers.iter().for_each(EtcdServer::pause);
    // It answers, and has nobody to agree with: what it says is the past.
    await_loss(&*to_one);
    assert_eq!(contents(&state(&*to_one)), [("app/shop".to_owned(), "1".to_owned())]);
    let Link::Lost { why, .. } = state(&*to_one).link else { panic!("the link is lost") };
    assert!(Arc::clone(&why).contains(&lonely.address().to_string()), "{why}");
    servers.iter().for_each(EtcdServer::resume);
    await_link(&*to_one);
}

#[test]
fn a_frozen_member_is_left_for_the_others() {
    let servers = EtcdServer::cluster(3);
    let addresses: Vec<_> = servers.iter().map(|server| server.address().to_string()).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let registry = connect_to_etcd(&addresses, SHORT_SESSION);
    await_link(&*registry);
    // One after the other, so that the one that we are with is among them.
    for (at, server) in servers.iter().enumerate() {
        server.pause();
        let path = format!("app/a{at}");
        insist(&*registry, &path, "1");
        await_link(&*registry);
        await_value(&*registry, &path, Some("1"));
        server.resume();
        eventually(DEADLINE, "the member is back", || {
            server.try_ctl(&["endpoint", "health"]).code == Some(0)
        });
    }
}
