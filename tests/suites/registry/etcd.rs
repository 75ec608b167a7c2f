//! etcd beyond the trait: other clients, cut connections, dead servers, expired leases, compaction.

use std::time::Instant;

use bytes::Bytes;
use discovery::registry::{Expect, Lifetime, Link, MAX_VALUE_BYTES, Registry, State};
use tests::{CuttableProxy, DEADLINE, EtcdServer, eventually};

use crate::fixture::{
    SESSION_TIMEOUT, SHORT_SESSION, await_link, await_loss, await_state, await_value, connect_to_etcd,
    connected_to_etcd, contents, cut_amid_writes, key, may_have_happened, read, run, state, write,
    write_for_session,
};

const ADDRESS: &str = "service/address/shop/v1/c1";
const PATH: &str = "/caas/service/address/shop/v1/c1";

fn assert_contents(state: &State, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(contents(state), wanted);
}

/// The first state that is published once the connection is back.
#[track_caller]
fn first_state_after(registry: &dyn Registry, restore: impl FnOnce()) -> State {
    let mut states = registry.watch();
    states.mark_unchanged();
    restore();
    run(async { tokio::time::timeout(DEADLINE, states.changed()).await }).unwrap().unwrap();
    states.borrow_and_update().clone()
}

#[test]
fn keys_of_another_client_arrive() {
    let server = EtcdServer::start();
    server.ctl(&["put", PATH, "10.0.0.1:80"]);
    server.ctl(&["put", "/caas", "above"]);
    server.ctl(&["put", "/caasx/app/shop", "beside"]);
    let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
    assert_contents(&state(&*registry), &[(ADDRESS, "10.0.0.1:80")]);

    let granted = server.ctl(&["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    let leased = "service/address/shop/v1/c2";
    server.ctl(&["put", "--lease", lease, "/caas/service/address/shop/v1/c2", "10.0.0.2:80"]);
    await_value(&*registry, leased, Some("10.0.0.2:80"));
    assert!(state(&*registry).entries[&key(leased)].ephemeral);
    server.ctl(&["put", PATH, "10.0.0.1:81"]);
    await_value(&*registry, ADDRESS, Some("10.0.0.1:81"));
    server.ctl(&["del", PATH]);
    await_value(&*registry, ADDRESS, None);
    server.ctl(&["lease", "revoke", lease]);
    await_state(&*registry, "the other client's lease ends", |state| state.entries.is_empty());
    server.ctl(&["put", "/caasx/app/shop", "beside again"]);
    server.ctl(&["put", PATH, "10.0.0.1:82"]);
    await_value(&*registry, ADDRESS, Some("10.0.0.1:82"));
    assert_eq!(state(&*registry).entries.len(), 1);
}

#[test]
fn a_key_that_cannot_be_used_harms_only_itself() {
    let server = EtcdServer::start();
    let large = "x".repeat(MAX_VALUE_BYTES + 1);
    for path in ["/caas/app/good", "/caas/app//bad", "/caas/", "/caas/app/bad/", "/caas/app/\u{1}"] {
        server.ctl(&["put", path, "{}"]);
    }
    server.ctl(&["put", "/caas/app/empty", ""]);
    assert_eq!(server.try_ctl_with(&["put", "/caas/app/large"], &large).code, Some(0));
    server.ctl(&["put", &format!("/caas/app/{}", "x".repeat(2_000)), "{}"]);
    let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
    assert_contents(&state(&*registry), &[("app/empty", ""), ("app/good", "{}"), ("app/large", "")]);

    assert_eq!(server.try_ctl_with(&["put", "/caas/app/large2"], &large).code, Some(0));
    await_value(&*registry, "app/large2", Some(""));
    server.ctl(&["put", "/caas/app//worse", "{}"]);
    server.ctl(&["put", "/caas/app/better", "{}"]);
    await_value(&*registry, "app/better", Some("{}"));
    await_value(&*registry, "app/good", Some("{}"));
}

#[test]
fn a_registry_that_is_not_there_yet_is_waited_for() {
    let mut server = EtcdServer::start();
    server.kill();
    let registry = connect_to_etcd(&[&server.address().to_string()], SESSION_TIMEOUT);
    assert!(matches!(state(&*registry).link, Link::Connecting { .. }));
    assert!(!may_have_happened(write(&*registry, "app/shop", "1", Expect::Any)));
    server.restart();
    await_link(&*registry);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
}

#[test]
fn a_dead_server_takes_the_link_and_no_entry() {
    let mut server = EtcdServer::start();
    let registry = connected_to_etcd(&server.address().to_string(), SHORT_SESSION);
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
    let server = EtcdServer::start();
    let registry = connected_to_etcd(&server.address().to_string(), SHORT_SESSION);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
    let proxy = CuttableProxy::to(server.address());
    let unlucky = connected_to_etcd(&proxy.address().to_string(), SHORT_SESSION);
    server.pause();
    await_loss(&*registry);
    await_loss(&*unlucky);
    server.resume();
    await_link(&*registry);
    await_value(&*registry, "app/shop", Some("1"));
    await_link(&*unlucky);
    cut_amid_writes(&*registry, &*unlucky, &proxy);
}

#[test]
fn what_changed_while_the_connection_was_cut_is_read_again() {
    let server = EtcdServer::start();
    let proxy = CuttableProxy::to(server.address());
    let registry = connected_to_etcd(&proxy.address().to_string(), SESSION_TIMEOUT);
    for name in ["changed", "deleted", "kept"] {
        server.ctl(&["put", &format!("/caas/app/{name}"), "before"]);
        await_value(&*registry, &format!("app/{name}"), Some("before"));
    }
    proxy.cut();
    await_loss(&*registry);
    server.ctl(&["put", "/caas/app/changed", "after"]);
    server.ctl(&["del", "/caas/app/deleted"]);
    server.ctl(&["put", "/caas/app/created", "after"]);
    // The history that a watch would need is gone.
    server.ctl(&["compact", &server.revision().to_string()]);
    assert_eq!(state(&*registry).entries.len(), 3, "nothing partial is published");

    // Every publication from here on says either the old state or the whole new one.
    let first = first_state_after(&*registry, || proxy.restore());
    assert!(first.link.is_connected());
    assert_contents(&first, &[("app/changed", "after"), ("app/created", "after"), ("app/kept", "before")]);
    server.ctl(&["put", "/caas/app/kept", "after"]);
    await_value(&*registry, "app/kept", Some("after"));
}

#[test]
fn a_cluster_that_was_rolled_back_is_seen_as_it_is() {
    let proxied = EtcdServer::start();
    let proxy = CuttableProxy::to(proxied.address());
    let registry = connected_to_etcd(&proxy.address().to_string(), SESSION_TIMEOUT);
    write(&*registry, "app/old", "1", Expect::Any).unwrap();
    write(&*registry, "app/old", "2", Expect::Any).unwrap();
    await_value(&*registry, "app/old", Some("2"));
    let before = state(&*registry).revision;
    // Another cluster at the same address, with another history and smaller revisions.
    let other = EtcdServer::start();
    other.ctl(&["put", "/caas/app/new", "1"]);
    proxy.cut();
    await_loss(&*registry);
    let first = first_state_after(&*registry, || proxy.forward_to(other.address()));
    assert_contents(&first, &[("app/new", "1")]);
    assert!(first.revision < before, "whoever watches can tell");
    other.ctl(&["put", "/caas/app/new", "2"]);
    await_value(&*registry, "app/new", Some("2"));
}

#[test]
fn an_expired_lease_is_replaced_and_registers_again_what_it_held() {
    let server = EtcdServer::start();
    let proxy = CuttableProxy::to(server.address());
    let registry = connected_to_etcd(&proxy.address().to_string(), SHORT_SESSION);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    write_for_session(&*registry, "service/address/shop/v1/gone", "10.0.0.2:80").unwrap();
    write_for_session(&*registry, "service/address/shop/v1/taken", "10.0.0.3:80").unwrap();
    await_state(&*registry, "all three", |state| state.entries.len() == 3);
    run(registry.delete(&key("service/address/shop/v1/gone"), Expect::Any)).unwrap();
    await_value(&*registry, "service/address/shop/v1/gone", None);
    let first_lease = server.lease(PATH).unwrap();

    proxy.cut();
    eventually(DEADLINE, "the servers expire the lease", || server.lease(PATH).is_none());
    assert_eq!(state(&*registry).entries.len(), 2, "the last state stands");
    server.ctl(&["put", "/caas/service/address/shop/v1/taken", "10.0.0.9:80"]);
    proxy.restore();

    await_link(&*registry);
    assert_contents(
        &state(&*registry),
        &[(ADDRESS, "10.0.0.1:80"), ("service/address/shop/v1/taken", "10.0.0.9:80")],
    );
    let lease = server.lease(PATH).unwrap();
    assert!(lease != 0 && lease != first_lease);
}

#[test]
fn a_lease_that_ends_on_a_living_connection_is_no_removal_and_a_deletion_is() {
    let server = EtcdServer::start();
    let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    write_for_session(&*registry, "gateway/gw-1", "here").unwrap();
    await_value(&*registry, "gateway/gw-1", Some("here"));
    await_value(&*registry, ADDRESS, Some("10.0.0.1:80"));
    server.ctl(&["del", PATH]);
    await_value(&*registry, ADDRESS, None);
    let first_lease = server.lease("/caas/gateway/gw-1").unwrap();
    // As an expiry looks from here: the keys go before a keep-alive tells why.
    server.ctl(&["lease", "revoke", &format!("{first_lease:x}")]);
    eventually(DEADLINE, "registered again", || {
        server.lease("/caas/gateway/gw-1").is_some_and(|lease| lease != 0 && lease != first_lease)
    });
    await_link(&*registry);
    await_value(&*registry, "gateway/gw-1", Some("here"));
    assert_eq!(read(&*registry, ADDRESS), None, "what an operator removed is not made again");
}

#[test]
fn a_lease_outlives_its_connection() {
    let mut server = EtcdServer::start();
    let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    await_value(&*registry, ADDRESS, Some("10.0.0.1:80"));
    let (lease, version) = (server.lease(PATH), read(&*registry, ADDRESS).unwrap().version);
    server.kill();
    await_loss(&*registry);
    server.restart();
    await_link(&*registry);
    assert_eq!(server.lease(PATH), lease);
    assert_eq!(read(&*registry, ADDRESS).unwrap().version, version, "the key was never written again");
    let watched = Instant::now();
    eventually(DEADLINE, "the lease would have expired", || watched.elapsed() > 2 * SESSION_TIMEOUT);
    assert_eq!(server.lease(PATH), lease, "it is kept alive");
}

#[test]
fn a_closed_handle_leaves_nothing_behind() {
    let server = EtcdServer::start();
    let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
    write_for_session(&*registry, ADDRESS, "10.0.0.1:80").unwrap();
    run(registry.close());
    assert_eq!(server.value(PATH), None);
    assert_eq!(server.ctl(&["lease", "list"]).trim(), "found 0 leases");
    assert!(!may_have_happened(write(&*registry, "app/shop", "1", Expect::Any)));
}

#[test]
fn values_above_one_answer_arrive_in_smaller_pages() {
    const VALUES: usize = 80;
    let server = EtcdServer::start();
    let address = server.address().to_string();
    let registry = connected_to_etcd(&address, SESSION_TIMEOUT);
    let value = Bytes::from(vec![b'x'; MAX_VALUE_BYTES]);
    for n in 0..VALUES {
        let key = key(&format!("app/a{n}"));
        run(registry.write(&key, value.clone(), Expect::Any, Lifetime::Persistent)).unwrap();
    }
    let reader = connected_to_etcd(&address, SESSION_TIMEOUT);
    let state = state(&*reader);
    assert_eq!(state.entries.len(), VALUES);
    assert!(state.entries.values().all(|entry| entry.value == value));
}

/// Prints how long a whole read takes; a figure to look at, not a promise.
#[test]
fn twelve_thousand_keys_are_read_as_one_state() {
    const KEYS: usize = 12_000;
    let server = EtcdServer::start();
    let address = server.address().to_string();
    let registry = connected_to_etcd(&address, SESSION_TIMEOUT);
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(1_000) {
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
    let reader = connected_to_etcd(&address, SESSION_TIMEOUT);
    println!("connected and read {KEYS} addresses in {:?}", started.elapsed());
    assert_eq!(state(&*reader).entries.len(), KEYS);
}
