//! Which process is which, and processes that nobody looks after.
//!
//! Every process of an instance has the instance's folder in its environment, as has all that it starts
//! and does not take care to hide it. That finds them when nothing else can: where no cgroup holds them
//! and their shim was killed.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that marks a process as part of an instance.
pub(super) const MARK: &str = "SLUICE_INSTANCE_DIR";

/// The kernel allows command lines and environments of 6 MiB; marks stand where they are put.
const MAX_ENVIRONMENT_BYTES: u64 = 8 << 20;

/// A process for good: its number, and when the kernel says that it started, in ticks since the machine
/// did, in that run of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    started: u64,
    boot: String,
}

impl Identity {
    /// `None`: there is no such process.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)?, boot: boot_id()? })
    }

    /// A handle on the process, if it is still that one. The handle is taken first: after that the
    /// number can be given to nobody else without the handle being dead.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (Self::of(self.pid).as_ref() == Some(self)).then_some(handle)
    }

    /// Kills it if it is still that one.
    pub(super) fn kill(&self) {
        if let Some(handle) = self.open() {
            let _ended_meanwhile = pidfd_send_signal(handle, Signal::KILL);
        }
    }

    /// What it was started with: `NAME=value`, each.
    pub(super) fn environment(&self) -> io::Result<Vec<Vec<u8>>> {
        let text = read_environment(self.pid)?;
        // Still the same, so that what was read was its own.
        self.open().ok_or(io::ErrorKind::NotFound)?;
        Ok(text.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Field 22 of `/proc/PID/stat`. The second is the program's name, which may contain anything.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn read_environment(pid: i32) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Kills all processes that `is_stray` says of, given the folder that they are marked with, until none
/// is left, or for so many rounds: one that starts others as fast is caught up with, as its kind dies
/// before it can. Returns how many.
pub(super) fn kill_marked(is_stray: impl Fn(&Path) -> bool) -> usize {
    const ROUNDS: usize = 50;
    /// A killed process lets go of its memory, and with it of its mark, within this.
    const PAUSE: Duration = Duration::from_millis(2);
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let found = marked(&is_stray);
        if found.is_empty() {
            break;
        }
        killed += found.len();
        for handle in found {
            let _ended_meanwhile = pidfd_send_signal(handle, Signal::KILL);
        }
        std::thread::sleep(PAUSE);
    }
    killed
}

fn marked(is_stray: &impl Fn(&Path) -> bool) -> Vec<OwnedFd> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let environment = read_environment(pid).ok()?;
        let mark = environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
        is_stray(Path::new(std::ffi::OsStr::from_bytes(mark))).then_some(handle)
    })
    .collect()
}

#[cfg(test)]
pub(super) fn count_marked(is_wanted: impl Fn(&Path) -> bool) -> usize {
    marked(&is_wanted).len()
}
