//! ZooKeeper beyond the trait: other clients, cut connections, dead servers, expired sessions.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use discovery::registry::{Expect, Lifetime, Link, MAX_VALUE_BYTES, Registry};
use tests::{CuttableProxy, DEADLINE, Kazoo, ZooKeeperServer, eventually};

use crate::fixture::{
    SESSION_TIMEOUT, SHORT_SESSION, await_link, await_loss, await_state, await_value, connect, connected,
    contents, cut_amid_writes, key, may_have_happened, run, state, write, write_for_session,
};

const ADDRESS: &str = "service/address/shop/v1/c1";
const NODE: &str = "/caas/service/address/shop/v1/c1";

#[test]
fn nodes_of_another_client_arrive_and_structure_is_no_entry() {
    let server = ZooKeeperServer::start();
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    kazoo.create(NODE, b"10.0.0.1:80", false).unwrap();
    let registry = connected(&server.address().to_string(), SESSION_TIMEOUT);
    await_value(&*registry, ADDRESS, Some("10.0.0.1:80"));
    assert_eq!(state(&*registry).entries.len(), 1, "{:?}", contents(&state(&*registry)));

    kazoo.create("/caas/service/address/shop/v1/c2", b"10.0.0.2:80", true).unwrap();
    await_value(&*registry, "service/address/shop/v1/c2", Some("10.0.0.2:80"));
    assert!(state(&*registry).entries[&key("service/address/shop/v1/c2")].ephemeral);
    kazoo.set(NODE, b"").unwrap();
    await_value(&*registry, ADDRESS, None);
    kazoo.set(NODE, b"10.0.0.1:81").unwrap();
    await_value(&*registry, ADDRESS, Some("10.0.0.1:81"));
    kazoo.delete(NODE).unwrap();
    await_value(&*registry, ADDRESS, None);
    drop(kazoo);
    await_state(&*registry, "the other client's session ends", |state| state.entries.is_empty());
}

#[test]
fn a_node_that_cannot_be_used_harms_only_itself() {
    let server = ZooKeeperServer::start();
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    kazoo.create("/caas/app/good", b"{}", false).unwrap();
    kazoo.create("/caas/app/large", &vec![b'x'; MAX_VALUE_BYTES + 1], false).unwrap();
    kazoo.create("/caas/app/secret", b"{}", false).unwrap();
    kazoo.forbid("/caas/app/secret").unwrap();
    kazoo.create("/caas/app/hidden/below", b"{}", false).unwrap();
    kazoo.forbid("/caas/app/hidden").unwrap();
    kazoo.create("/caas/gateway/empty", b"", true).unwrap();
    let long = format!("/caas/app/{}", "x".repeat(2_000));
    kazoo.create(&long, b"{}", false).unwrap();

    let wanted = [("app/good", "{}"), ("app/large", ""), ("app/secret", ""), ("gateway/empty", "")];
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let registry = connected(&server.address().to_string(), SESSION_TIMEOUT);
    assert_eq!(contents(&state(&*registry)), wanted, "read as a whole");

    kazoo.create("/caas/app/large2", &vec![b'x'; MAX_VALUE_BYTES + 1], false).unwrap();
    await_value(&*registry, "app/large2", Some(""));
    await_value(&*registry, "app/good", Some("{}"));
}

#[test]
fn a_registry_that_is_not_there_yet_is_waited_for() {
    let mut server = ZooKeeperServer::start();
    server.kill();
    let registry = connect(&server.address().to_string(), SESSION_TIMEOUT);
    assert!(matches!(state(&*registry).link, Link::Connecting { .. }));
    assert!(!may_have_happened(write(&*registry, "app/shop", "1", Expect::Any)));
    server.restart();
    await_link(&*registry);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
}

#[test]
fn a_dead_server_takes_the_link_and_no_entry() {
    let mut server = ZooKeeperServer::start();
    let registry = connected(&server.address().to_string(), SHORT_SESSION);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
    await_value(&*registry, "app/shop", Some("1"));
    let before = state(&*registry);
    server.kill();
    await_loss(&*registry);
    assert_eq!(state(&*registry).entries, before.entries);
    assert!(!may_have_happened(write(&*registry, "app/shop", "2", Expect::Any)));

    server.restart();
    await_link(&*registry);
    assert_eq!(state(&*registry).entries, before.entries);
    write(&*registry, "app/shop", "2", Expect::Any).unwrap();
    await_value(&*registry, "app/shop", Some("2"));
}

#[test]
fn a_silent_server_is_noticed_and_an_unanswered_write_may_have_happened() {
    let server = ZooKeeperServer::start();
    let registry = connected(&server.address().to_string(), SHORT_SESSION);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
    let proxy = CuttableProxy::to(server.address());
    let unlucky = connected(&proxy.address().to_string(), SHORT_SESSION);
    server.pause();
    await_loss(&*registry);
    server.resume();
    await_link(&*registry);
    await_value(&*registry, "app/shop", Some("1"));

    await_link(&*unlucky);
    cut_amid_writes(&*registry, &*unlucky, &proxy);
}

#[test]
fn what_changed_while_the_connection_was_cut_is_read_again() {
    let server = ZooKeeperServer::start();
    let proxy = CuttableProxy::to(server.address());
    let registry = connected(&proxy.address().to_string(), SESSION_TIMEOUT);
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    for name in ["changed", "deleted", "kept"] {
        kazoo.create(&format!("/caas/app/{name}"), b"before", false).unwrap();
        await_value(&*registry, &format!("app/{name}"), Some("before"));
    }
    proxy.cut();
    await_loss(&*registry);
    kazoo.set("/caas/app/changed", b"after").unwrap();
    kazoo.delete("/caas/app/deleted").unwrap();
    kazoo.create("/caas/app/created", b"after", false).unwrap();
    assert_eq!(state(&*registry).entries.len(), 3, "nothing partial is published");

    // Every publication from here on says either the old state or the whole new one.
    let mut states = registry.watch();
    states.mark_unchanged();
    proxy.restore();
    run(async { tokio::time::timeout(DEADLINE, states.changed()).await }).unwrap().unwrap();
    let wanted = [("app/changed", "after"), ("app/created", "after"), ("app/kept", "before")];
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let first = states.borrow_and_update().clone();
    assert!(first.link.is_connected());
    assert_eq!(contents(&first), wanted);
}

#[test]
fn an_expired_session_is_replaced_and_registers_again_what_it_held() {
    let server = ZooKeeperServer::start();
    let proxy = CuttableProxy::to(server.address());
    let registry = connected(&proxy.address().to_string(), SHORT_SESSION);
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    write_for_session(&*registry, "service/address/shop/v1/gone", "10.0.0.2:80").unwrap();
    write_for_session(&*registry, "service/address/shop/v1/taken", "10.0.0.3:80").unwrap();
    await_state(&*registry, "all three", |state| state.entries.len() == 3);
    run(registry.delete(&key("service/address/shop/v1/gone"), Expect::Any)).unwrap();
    await_value(&*registry, "service/address/shop/v1/gone", None);
    let first_owner = kazoo.get(NODE).unwrap().unwrap().owner;

    proxy.cut();
    eventually(DEADLINE, "the servers expire the session", || kazoo.get(NODE).unwrap().is_none());
    assert_eq!(state(&*registry).entries.len(), 2, "the last state stands");
    kazoo.create("/caas/service/address/shop/v1/taken", b"10.0.0.9:80", true).unwrap();
    proxy.restore();

    await_link(&*registry);
    let wanted = [(ADDRESS, "10.0.0.1:80"), ("service/address/shop/v1/taken", "10.0.0.9:80")];
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(contents(&state(&*registry)), wanted);
    let node = kazoo.get(NODE).unwrap().unwrap();
    assert!(node.owner != 0 && node.owner != first_owner);
}

#[test]
fn a_registration_outlives_a_session_that_the_servers_still_count() {
    let mut server = ZooKeeperServer::start();
    let registry = connected(&server.address().to_string(), SHORT_SESSION);
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    let first_owner = kazoo.get(NODE).unwrap().unwrap().owner;
    // Down for longer than the client waits, the servers give the session its whole time again.
    server.kill();
    await_state(
        &*registry,
        "the session ends for us",
        |state| matches!(&state.link, Link::Lost { since, .. } if since.elapsed() > SHORT_SESSION * 7 / 5),
    );
    server.restart();
    // Its session may have ended meanwhile, and this one shall not.
    let mut kazoo = Kazoo::connect(&server, DEADLINE);
    await_link(&*registry);
    await_value(&*registry, ADDRESS, Some("10.0.0.1:80"));
    let watched = Instant::now();
    eventually(DEADLINE, "the old session's time is over", || {
        let node = kazoo.get(NODE).unwrap().expect("registered at every moment");
        assert_ne!(node.owner, first_owner, "taken over before the link counts as up");
        watched.elapsed() > 2 * SHORT_SESSION
    });
}

#[test]
fn a_closed_handle_leaves_nothing_behind() {
    let server = ZooKeeperServer::start();
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    let registry = connected(&server.address().to_string(), SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    run(registry.close());
    assert_eq!(kazoo.get(NODE).unwrap(), None);
    assert!(!may_have_happened(write(&*registry, "app/shop", "1", Expect::Any)));
}

/// Prints how long a whole read takes; a figure to look at, not a promise.
#[test]
fn twelve_thousand_nodes_are_read_as_one_state() {
    const NODES: usize = 12_000;
    let server = ZooKeeperServer::start();
    let address = server.address().to_string();
    let registry: Arc<dyn Registry> = connected(&address, SESSION_TIMEOUT);
    for chunk in (0..NODES).collect::<Vec<_>>().chunks(1_000) {
        let keys: Vec<_> =
            chunk.iter().map(|n| key(&format!("service/address/a{}/v1/c{n}", n / 10))).collect();
        let writes = keys.iter().map(|key| {
            registry.write(key, Bytes::from_static(b"10.0.0.1:80"), Expect::Any, Lifetime::Persistent)
        });
        for result in run(futures::future::join_all(writes)) {
            result.unwrap();
        }
    }
    let started = Instant::now();
    let reader = connected(&address, SESSION_TIMEOUT);
    println!("connected and read {NODES} addresses in {:?}", started.elapsed());
    assert_eq!(state(&*reader).entries.len(), NODES);
}
