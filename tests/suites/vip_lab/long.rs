//! The lab in its long form: every fault several times, on both registries, with the registry's own faults. Keeps what it
//! measured.

use std::time::Duration;

use crate::faults::{Fault, judge, round};
use crate::keepalived;
use crate::lab::{Kind, Lab};
use crate::report::{Row, write};

const ROUNDS: usize = 5;
/// How long all of the registry is away.
const OUTAGE: Duration = Duration::from_secs(12);
/// An answer comes every 10 ms.
const ANSWERS_IN_OUTAGE: usize = 1_200;

/// What befalls the registry.
#[derive(Debug, Clone, Copy)]
enum RegistryFault {
    LeaderKilled,
    LeaderFrozen,
    Away,
}

impl RegistryFault {
    const ALL: [Self; 3] = [Self::LeaderKilled, Self::LeaderFrozen, Self::Away];

    fn name(self) -> String {
        match self {
            Self::LeaderKilled => "registry's leader killed".to_owned(),
            Self::LeaderFrozen => "registry's leader frozen".to_owned(),
            Self::Away => format!("all of the registry away for {} s", OUTAGE.as_secs()),
        }
    }

    /// Returns the longest time without an answer.
    fn round(self, lab: &mut Lab) -> Duration {
        let before = lab.settled(0);
        lab.service.clear();
        lab.link.clear();
        lab.hear(20);
        let struck: Vec<usize> = lab.with_registry(|registry| match self {
            Self::LeaderKilled | Self::LeaderFrozen => vec![registry.leader()],
            Self::Away => (0..registry.size()).collect(),
        });
        lab.with_registry(|registry| match self {
            Self::LeaderFrozen => struck.iter().for_each(|at| registry.pause(*at)),
            Self::LeaderKilled | Self::Away => struck.iter().for_each(|at| registry.kill(*at)),
        });
        // As long as the outage is to last, by the answers that come meanwhile.
        for _ in 0..ANSWERS_IN_OUTAGE / 100 {
            lab.hear(100);
        }
        lab.with_registry(|registry| match self {
            Self::LeaderFrozen => struck.iter().for_each(|at| registry.resume(*at)),
            Self::LeaderKilled | Self::Away => registry.restart_all(&struck),
        });
        let after = lab.settled(0);
        lab.hear(20);
        judge(lab, &self.name(), before, after);
        lab.service.longest_gap()
    }
}

#[test]
#[ignore = "minutes: SLUICE_LONG=1 with --ignored"]
fn every_fault_on_both_registries() {
    if std::env::var_os("SLUICE_LONG").is_none() {
        return;
    }
    let mut kept = Vec::new();
    for (system, kind) in
        [("sluice, ZooKeeper of 3", Kind::ZooKeeper(3)), ("sluice, etcd of 3", Kind::Etcd(3))]
    {
        // Each fault on gateways that have not taken over lately: who did so five times within a minute lets others go first.
        for fault in Fault::ALL.into_iter().filter(|fault| is_wanted(fault.name())) {
            let Some(mut lab) = Lab::start(kind, &[0], &[]) else { return };
            let downtimes = (0..ROUNDS).map(|_| round(&mut lab, fault).0).collect();
            keep(&mut kept, Row { system, fault: fault.name().to_owned(), downtimes, doubled: 0 });
        }
        for fault in RegistryFault::ALL.into_iter().filter(|fault| is_wanted(&fault.name())) {
            let Some(mut lab) = Lab::start(kind, &[0], &[]) else { return };
            let downtimes = (0..ROUNDS).map(|_| fault.round(&mut lab)).collect();
            keep(&mut kept, Row { system, fault: fault.name(), downtimes, doubled: 0 });
        }
    }
    write("vip-failover", &kept);
}

#[test]
#[ignore = "minutes: SLUICE_LONG=1 with --ignored"]
fn the_same_faults_on_keepalived() {
    if std::env::var_os("SLUICE_LONG").is_none() {
        return;
    }
    let mut kept = Vec::new();
    for (system, every) in [("keepalived, 1 s", "1"), ("keepalived, 0.1 s", "0.1")] {
        let mut lab = keepalived::Lab::start(every);
        for fault in keepalived::FAULTS {
            let rounds: Vec<_> = (0..ROUNDS).map(|_| lab.round(fault)).collect();
            let doubled = rounds.iter().filter(|round| round.doubled).count();
            let downtimes = rounds.iter().map(|round| round.downtime).collect();
            keep(&mut kept, Row { system, fault: fault.name().to_owned(), downtimes, doubled });
        }
    }
    write("vip-keepalived", &kept);
}

/// `SLUICE_FAULT` names one.
fn is_wanted(fault: &str) -> bool {
    std::env::var("SLUICE_FAULT").map_or(true, |wanted| wanted == fault)
}

fn keep(kept: &mut Vec<Row>, row: Row) {
    println!("{row:?}");
    kept.push(row);
}
