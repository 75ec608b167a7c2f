//! The lab in its long form: every fault several times, on both registries, with the registry's own faults. Keeps what it
//! measured.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{DEADLINE, finish};

use crate::faults::{Fault, judge, round};
use crate::lab::{Kind, Lab};

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
    for (registry, kind) in [("ZooKeeper", Kind::ZooKeeper(3)), ("etcd", Kind::Etcd(3))] {
        let Some(mut lab) = Lab::start(kind, &[0], &[]) else { return };
        for fault in Fault::ALL {
            let millis = (0..ROUNDS).map(|_| round(&mut lab, fault).as_millis()).collect();
            keep(&mut kept, registry, fault.name(), millis);
        }
        for fault in RegistryFault::ALL {
            let millis = (0..ROUNDS).map(|_| fault.round(&mut lab).as_millis()).collect();
            keep(&mut kept, registry, &fault.name(), millis);
        }
    }
    write(&kept);
}

struct Row {
    registry: &'static str,
    fault: String,
    millis: Vec<u128>,
}

fn keep(kept: &mut Vec<Row>, registry: &'static str, fault: &str, millis: Vec<u128>) {
    println!("{registry}: {fault}: {millis:?} ms without an answer");
    kept.push(Row { registry, fault: fault.to_owned(), millis });
}

fn said(program: &str, arguments: &[&str]) -> String {
    finish(Command::new(program).args(arguments), "", DEADLINE).stdout.trim().to_owned()
}

/// The page and the raw values, as the other kept results.
fn write(kept: &[Row]) {
    let began = said("date", &["-u", "+%Y-%m-%dT%H%M%SZ"]);
    let (kernel, commit) = (said("uname", &["-r"]), said("git", &["rev-parse", "--short", "HEAD"]));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or_default();
    let run = json!({ "kind": "run", "scenario": "vip-failover", "kernel": kernel, "commit": commit, "lease_ms": 300, "probe_ms": 10 });
    let mut raw = format!("{run}\n");
    let mut page = format!(
        "# vip-failover, {began}\n\n\
         Three gateways of sluice {commit}, a client and a registry of three in network namespaces on one bridge; lease 300 ms; a datagram \
         through the holder every 10 ms. Milliseconds from the last answer of the old holder to the first of the new one; for \
         the registry's faults the longest time without an answer. In no round did two gateways answer ARP or \
         datagrams, nor the old holder after its successor: the run fails otherwise. Kernel {kernel}, load at the end {load}.\n\n\
         | registry | fault | rounds | min | max |\n| --- | --- | --- | --- | --- |\n"
    );
    for Row { registry, fault, millis } in kept {
        let line = json!({ "kind": "fault", "registry": registry, "fault": fault, "downtime_ms": millis.iter().map(|one| *one as u64).collect::<Vec<_>>() });
        writeln!(raw, "{line}").expect("a string takes all");
        let (min, max) = (millis.iter().min().expect("some"), millis.iter().max().expect("some"));
        writeln!(page, "| {registry} | {fault} | {} | {min} | {max} |", millis.len())
            .expect("a string takes all");
    }
    writeln!(raw, "{}", json!({ "kind": "end", "load": load })).expect("a string takes all");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/results");
    fs::write(folder.join(format!("{began}-vip-failover.md")), page).expect("the folder is ours");
    fs::write(folder.join(format!("{began}-vip-failover.jsonl")), raw).expect("the folder is ours");
}
