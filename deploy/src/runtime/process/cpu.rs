//! Time of processors that instances have used.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use super::state::{Found, ShimRecord};
use super::{Cgroup, Shared};
use crate::runtime::InstanceRef;

/// What the kernel counts in towards programs, whatever it is built with, on all that we are built for.
const TICKS_PER_SECOND: u64 = 100;

/// By their cgroups, where they have some; by their processes elsewhere.
pub(super) fn used(shared: &Shared, ids: Vec<InstanceRef>) -> Vec<(InstanceRef, Duration)> {
    let mut processes = None;
    let mut measure = |id: &InstanceRef| {
        let Ok(Found::Running(_, Some(shim))) = shared.find(id) else { return None };
        of_cgroup(&shared.cgroup(id)).or_else(|| of_tree(processes.get_or_insert_with(read_processes), &shim))
    };
    ids.into_iter().filter_map(|id| measure(&id).map(|used| (id, used))).collect()
}

fn of_cgroup(cgroup: &Cgroup) -> Option<Duration> {
    cgroup.folders().iter().find_map(|folder| {
        let two = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
        let micros = two.lines().find_map(|line| line.strip_prefix("usage_usec "));
        if let Some(micros) = micros.and_then(|micros| micros.trim().parse().ok()) {
            return Some(Duration::from_micros(micros));
        }
        let one = fs::read_to_string(folder.join("cpuacct.usage")).ok()?;
        one.trim().parse().ok().map(Duration::from_nanos)
    })
}

/// A process: its parent, and the ticks that it and those of its children that have ended have used.
type Processes = HashMap<i32, (i32, u64)>;

fn read_processes() -> Processes {
    let Ok(entries) = fs::read_dir("/proc") else { return Processes::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// Fields 4 and 14 to 17 of `/proc/PID/stat`. The second is the program's name, which may contain anything.
fn parse(stat: &[u8]) -> Option<(i32, u64)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

/// What the shim started, with all that it started. The shim reaps what loses its parent, so nothing leaves the tree.
fn of_tree(processes: &Processes, shim: &ShimRecord) -> Option<Duration> {
    // Its number may be another process's by now.
    shim.shim.open()?;
    let root = shim.shim.pid;
    let belongs = |pid: i32| {
        let mut at = pid;
        // No tree is as deep as there are processes.
        for _ in 0..processes.len() {
            if at == root {
                return true;
            }
            match processes.get(&at) {
                Some((parent, _)) if *parent > 0 => at = *parent,
                _ => return false,
            }
        }
        false
    };
    let ticks: u64 = processes.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, (_, ticks))| ticks).sum();
    Some(Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_brackets_are_no_fields() {
        let stat = b"7 (a ) b) S 3 7 7 0 -1 4194304 100 0 0 0 10 20 30 40 20 0 1 0 500 0 0";
        assert_eq!(parse(stat), Some((3, 100)));
        assert_eq!(parse(b"7 (a"), None);
        assert_eq!(parse(b"7 (a) S 3"), None);
    }
}
