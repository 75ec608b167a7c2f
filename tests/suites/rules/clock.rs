//! Rules 4 and 6: the machine's clock may be set to any time. Only the wall clock is: what the gateway waits for is counted
//! by another one, which nobody can set.

use std::fs;
use std::path::PathBuf;

use tests::{DEADLINE, Endpoint, Gateway, Load, eventually};

use crate::store::{HOST, Kind, Store, answers_from, await_link};

const SPEC: &str = r#"{"health": {"interval": "100ms", "timeout": "100ms", "rise": 1, "fall": 1}}"#;

/// Debian's, in the folder of whatever architecture this is.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("there are libraries").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.is_file()).expect("apt install faketime")
}

fn steps(kind: Kind) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let mut store = Store::start(kind);
    let gateway = Gateway::start_as(&store.config(store.address()), |mut command| {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    });
    store.put("app/shop", SPEC);
    store.register("c1", &a);
    answers_from(&gateway, &["a"]);
    let probed = || {
        let shown = gateway.admin_json("/v1/endpoints?app=shop");
        shown["items"][0]["last_probe"].as_str().map_or(0, |at| at[..4].parse::<i32>().unwrap_or(0))
    };
    let today = probed();
    let load = Load::start(gateway.web(), HOST, 2);
    for (step, comes, years) in [("+3652d", true, 9..=11), ("-3652d", false, -11..=-9), ("+0", true, 0..=0)] {
        // Replaced in one step: nobody reads half of it.
        let beside = folder.path().join("next");
        fs::write(&beside, step).unwrap();
        fs::rename(&beside, &offset).unwrap();
        eventually(DEADLINE, "the clock was set, and probes go on", || years.contains(&(probed() - today)));
        // Changes come through, sessions last, nobody is taken for dead.
        match comes {
            true => store.register("c2", &b),
            false => store.delete(&crate::store::address("shop", "c2")),
        }
        answers_from(&gateway, if comes { &["a", "b"] } else { &["a"] });
        await_link(&gateway, true);
    }
    load.stop().assert_undisturbed();
    // It was one connection all the time.
    let age = gateway.metrics().sum("sluice_registry_link_age_seconds", &[]);
    assert!(age.is_some_and(|age| (0.0..3_600.0).contains(&age)), "{age:?}");
    assert!(!gateway.output().contains("the registry is lost"), "{}", gateway.output());
}

#[test]
fn on_zookeeper_steps_of_the_clock_are_nobodys_business() {
    steps(Kind::ZooKeeper);
}

#[test]
fn on_etcd_steps_of_the_clock_are_nobodys_business() {
    steps(Kind::Etcd);
}
