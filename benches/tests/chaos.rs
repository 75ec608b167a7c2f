//! The chaos run in its short form: enough for a registry of each kind to be struck a few times. The long one is the scenario
//! `chaos`; what a seed does here it does there with `--seed`.

use std::time::Duration;

use benches::chaos::{Kind, Plan, run};
use tests::DEADLINE;

/// With the start, which is a third of it.
const SHORT: Duration = Duration::from_secs(35);
/// A session lasts four seconds.
const LONGEST_FAULT: Duration = Duration::from_secs(6);

#[track_caller]
fn passes(registry: Kind) {
    let seed = fastrand::u64(..u64::from(u32::MAX));
    println!("seed {seed}");
    let logs = tempfile::tempdir().expect("a folder can be made");
    let plan = Plan {
        registry,
        gateways: 2,
        clients: 2,
        time: SHORT,
        longest_fault: LONGEST_FAULT,
        // How quick they are the scenario measures. Here they have to agree at all.
        within: DEADLINE * 2,
        seed,
        logs: Some(logs.path().to_owned()),
    };
    let wrong = run(&plan).wrong();
    if !wrong.is_empty() {
        let kept = logs.keep();
        panic!("seed {seed}: {}\nwhat the gateways logged: {}", wrong.join("\n"), kept.display());
    }
}

#[test]
fn gateways_of_a_struck_zookeeper_lose_nothing_and_agree_in_the_end() {
    passes(Kind::ZooKeeper);
}

#[test]
fn gateways_of_a_struck_etcd_lose_nothing_and_agree_in_the_end() {
    passes(Kind::Etcd);
}
