//! A gateway that is well and ill in turns.

use std::time::{Duration, Instant};

use tests::{DEADLINE, eventually};

use crate::faults::judge;
use crate::lab::{Kind, Lab, vip};

/// Well for half of it, and as long ill.
const PERIOD: Duration = Duration::from_secs(3);
const PERIODS: u32 = 4;

/// Ill after 0.6 s, well after 0.4 s.
const PROBE: &str =
    "\n[vip.probe]\nhost = \"probe.test\"\npath = \"/probe\"\ninterval = \"200ms\"\nrise = 2\nfall = 3\n";

#[test]
fn gateway_that_fails_its_own_probe_again_and_again_does_not_make_an_address_flap() {
    let lines = ["preempt = true", "rebalance_every = \"5s\"", PROBE];
    let Some(lab) = Lab::start(Kind::ZooKeeper(1), &[0], &lines) else { return };
    let first = lab.settled(0);
    lab.service.clear();
    lab.link.clear();
    lab.hear(20);
    let began = Instant::now();
    for turn in 0..PERIODS * 2 {
        lab.fail_probe(first.by, turn % 2 == 0);
        let until = began + PERIOD / 2 * (turn + 1);
        eventually(DEADLINE, "half a period has passed", || {
            lab.hear(10);
            Instant::now() >= until
        });
        let failures = [("check", "probe")];
        let eligible = lab.metric(first.by, "sluice_vip_eligible", &failures);
        assert_eq!(eligible, u64::from(turn % 2 == 1), "in half period {turn}");
    }
    let last = lab.settled(0);
    // It was let go once, and whoever took it has kept it.
    assert_ne!(last.by, first.by);
    assert_eq!(last.epoch, first.epoch + 1, "{first:?} {last:?}");
    judge(&lab, "a probe that fails every 3 s", first, last);
    let acquired = [("address", &*vip(0).to_string()), ("reason", "acquired")];
    assert_eq!(lab.metric(first.by, "sluice_vip_transitions_total", &acquired), 1);
}
