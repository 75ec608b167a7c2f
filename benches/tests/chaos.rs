//! The chaos run in its short form: enough for each kind of registry to be struck a few times. The long one is the scenario
//! `chaos`; a seed that fails here can be repeated there with `--seed`.

use std::time::Duration;

use benches::chaos::{Kind, Plan, run};

const SHORT: Duration = Duration::from_secs(10);
const LONGEST_FAULT: Duration = Duration::from_secs(3);

fn passes(registry: Kind) {
    let seed = fastrand::u64(..u64::from(u32::MAX));
    println!("seed {seed}");
    let plan = Plan { registry, gateways: 2, clients: 2, time: SHORT, longest_fault: LONGEST_FAULT, seed };
    let wrong = run(plan).wrong();
    assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
}

#[test]
fn gateways_of_a_struck_zookeeper_lose_nothing_and_agree_in_the_end() {
    passes(Kind::ZooKeeper);
}

#[test]
fn gateways_of_a_struck_etcd_lose_nothing_and_agree_in_the_end() {
    passes(Kind::Etcd);
}
