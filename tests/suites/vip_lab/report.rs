//! What the long form keeps: a page and the raw values, as the other kept results.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{DEADLINE, finish};

/// One fault, several times.
#[derive(Debug)]
pub struct Row {
    pub system: &'static str,
    pub fault: String,
    pub downtimes: Vec<Duration>,
    /// Rounds in which more than one answered. Where that may not be, the round has failed.
    pub doubled: usize,
}

fn said(program: &str, arguments: &[&str]) -> String {
    finish(Command::new(program).args(arguments), "", DEADLINE).stdout.trim().to_owned()
}

/// # Panics
/// When the folder of results cannot be written.
pub fn write(scenario: &str, kept: &[Row]) {
    let began = said("date", &["-u", "+%Y-%m-%dT%H%M%SZ"]);
    let (kernel, commit) = (said("uname", &["-r"]), said("git", &["rev-parse", "--short", "HEAD"]));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or_default();
    let run = json!({ "kind": "run", "scenario": scenario, "kernel": kernel, "commit": commit, "lease_ms": 300, "probe_ms": 10 });
    let mut raw = format!("{run}\n");
    let mut page = format!(
        "# {scenario}, {began}\n\n\
         Three gateways of sluice {commit}, a client and a registry of three in network namespaces on one bridge; lease 300 ms; a datagram \
         through the holder every 10 ms. Milliseconds from the last answer of the old holder to the first of the new one; for \
         the registry's faults the longest time without an answer. The same for three hosts with keepalived, whose answering \
         service is killed and stopped with it. \"Doubled\": rounds in which who answers ARP or datagrams \
         changed more often than it was taken over. A round of sluice in which that happens fails the run. Kernel {kernel}, load at the \
         end {load}.\n\n\
         | system | fault | rounds | min | max | doubled |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for Row { system, fault, downtimes, doubled } in kept {
        let millis: Vec<_> = downtimes.iter().map(Duration::as_millis).collect();
        let line = json!({ "kind": "fault", "system": system, "fault": fault, "downtime_ms": millis.iter().map(|one| *one as u64).collect::<Vec<_>>(), "doubled": doubled });
        writeln!(raw, "{line}").expect("a string takes all");
        let (min, max) = (millis.iter().min().expect("some"), millis.iter().max().expect("some"));
        writeln!(page, "| {system} | {fault} | {} | {min} | {max} | {doubled} |", millis.len())
            .expect("a string takes all");
    }
    writeln!(raw, "{}", json!({ "kind": "end", "load": load })).expect("a string takes all");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/results");
    fs::write(folder.join(format!("{began}-{scenario}.md")), page).expect("the folder is ours");
    fs::write(folder.join(format!("{began}-{scenario}.jsonl")), raw).expect("the folder is ours");
}
