//! Rule 4: a gateway restarts without a registry from what it has on its disk; rule 2 holds across restarts.

use std::time::Duration;

use fastrand::Rng;
use tests::{DEADLINE, Endpoint, Gateway, eventually, yields};

use crate::store::{HOST, Kind, RECOVERY, Store, address, answers_from, await_link, await_saved};

const SPEC: &str = r#"{"hosts": ["shop.apps.test"], "health": {"interval": "200ms", "timeout": "200ms"}}"#;
const ROUNDS: usize = 5;

/// Kills the gateway and starts it again with the same files.
#[track_caller]
fn kill_and_start(gateway: &mut Gateway) {
    gateway.kill();
    let mut process = Some(gateway.intruder());
    // Without its registry it waits for that for some seconds.
    yields(DEADLINE * 2, "the gateway is ready again", || {
        process = gateway.try_revive(process.take()?).err();
        process.is_none().then_some(())
    });
}

/// A gateway is killed at random moments while the registry changes and, every other time, is gone.
fn is_killed_at_any_moment(kind: Kind) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut store = Store::start(kind);
    let mut gateway = Gateway::start(&store.config(store.address()));
    store.put("app/shop", SPEC);
    store.register("c1", &a);
    answers_from(&gateway, &["a"]);
    await_saved(&gateway, "app/shop");
    await_saved(&gateway, "shop/v1/c1");
    for round in 0..ROUNDS {
        let changes = rng.usize(..12);
        for number in 0..changes {
            match rng.u8(..4) {
                0 => store.put(&format!("app/n{round}"), &format!(r#"{{"hosts": ["n{number}.test"]}}"#)),
                1 => store.put("app/shop", &SPEC.replace("200ms", &format!("{}ms", 300 + number))),
                2 => store.put(&address("shop", "bad"), "nowhere"),
                _ => store.register("c2", &b),
            }
        }
        let is_away = round % 2 == 1;
        if is_away {
            store.kill();
        }
        kill_and_start(&mut gateway);
        // From its first moment on.
        let answer = gateway.get(HOST, "/");
        assert_eq!(answer.status, 200, "seed {seed}, round {round}: {}", answer.text());
        if is_away {
            store.restart();
        }
        await_link(&gateway, true);
    }
    store.delete(&address("shop", "c1"));
    store.register("c2", &b);
    answers_from(&gateway, &["b"]);
    assert!(!gateway.output().contains("cannot be used; they will be written anew"), "seed {seed}");
}

#[test]
fn on_zookeeper_a_gateway_that_is_killed_at_any_moment_serves_again() {
    is_killed_at_any_moment(Kind::ZooKeeper);
}

#[test]
fn on_etcd_a_gateway_that_is_killed_at_any_moment_serves_again() {
    is_killed_at_any_moment(Kind::Etcd);
}

/// What stands in the registry is bad; the gateway that knew better is gone, and the next one knows as well.
fn keeps_the_last_good_spec(kind: Kind) {
    let a = Endpoint::start("a");
    let mut store = Store::start(kind);
    let mut gateway = Gateway::start(&store.config(store.address()));
    store.put("app/shop", &SPEC.replace(HOST, "shop.example.test"));
    store.register("c1", &a);
    let answers = |gateway: &Gateway| gateway.get("shop.example.test", "/").text() == "a";
    eventually(DEADLINE, "the app answers", || answers(&gateway));
    await_saved(&gateway, "shop.example.test");
    await_saved(&gateway, "shop/v1/c1");
    store.put("app/shop", "{\"hostz\": []}");
    store.put(&address("shop", "c1"), "nowhere");
    let rejects = |gateway: &Gateway| gateway.metrics().sum("sluice_config_rejects", &[("app", "shop")]);
    eventually(DEADLINE, "both are rejected", || rejects(&gateway) == Some(2.0));
    for is_away in [false, true] {
        if is_away {
            store.kill();
        }
        kill_and_start(&mut gateway);
        assert!(answers(&gateway), "with the registry away: {is_away}");
        if is_away {
            store.restart();
        }
        await_link(&gateway, true);
        eventually(RECOVERY, "both are rejected again", || rejects(&gateway) == Some(2.0));
        assert!(answers(&gateway), "with the registry away: {is_away}");
        // Long enough for the bad ones to be saved, if they were.
        let saved = gateway.folder().join("saved");
        tests::settled(DEADLINE, Duration::from_millis(200), "the file is what it is", || {
            std::fs::read(&saved).map_or(0, |bytes| bytes.len() as u64)
        });
        assert!(!std::fs::read_to_string(&saved).unwrap().contains("hostz"));
    }
}

#[test]
fn on_zookeeper_a_bad_value_outlives_the_gateway_and_takes_nothing() {
    keeps_the_last_good_spec(Kind::ZooKeeper);
}

#[test]
fn on_etcd_a_bad_value_outlives_the_gateway_and_takes_nothing() {
    keeps_the_last_good_spec(Kind::Etcd);
}
