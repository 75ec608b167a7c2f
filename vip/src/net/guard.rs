//! The guard: a process that outlives the gateway and cleans up after it, whatever ended it.
//!
//! The gateway starts its own binary again and gives it a pidfd of itself as standard input. A pidfd becomes
//! readable when its process has ended, and never means another process that was given the same number. The
//! guard then closes the fence and takes the addresses off, within milliseconds; without a guard the fence
//! would stay open until the lease ends. Of a process that is stopped and not dead it sees nothing: that is
//! what the fence is for.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::address::Addresses;
use super::error::{Error, Result};
use super::fence::Fence;
use super::interface::Interface;
use super::readable::readable;

const STARTING: &str = "starting the guard of the virtual IPs";
const WATCHING: &str = "watching the gateway's process";

/// What a guard cleans up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    pub interface: String,
    /// The name of the fence's tables. `None`: there is no fence.
    pub table: Option<String>,
    pub vips: Vec<IpAddr>,
}

/// A guard of this process. Dropping it leaves it on guard.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`, which must run [`stand_guard`], as the guard of this process. It has a process group of its own,
    /// so that a terminal's signals do not reach it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's: there is no such program, or no pidfd (Linux before 5.3).
    pub fn start(mut command: Command) -> Result<Self> {
        let us = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| failed(STARTING, errno))?;
        command.stdin(Stdio::from(us)).process_group(0);
        let child = tokio::process::Command::from(command).spawn();
        Ok(Self { child: child.map_err(|error| failed(STARTING, error))? })
    }

    /// Its number. `None`: it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the guard has ended, which it never should: start another one. Can be cancelled.
    ///
    /// # Errors
    /// The system's.
    pub async fn lost(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it without a clean-up: nothing is held any more, or another process holds it.
    ///
    /// # Errors
    /// The system's.
    pub async fn dismiss(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// The guard's whole life: waits until the process whose pidfd is standard input has ended, then closes the fence
/// and takes the addresses off. Returns those that were on. Must be called within a tokio runtime.
///
/// From its first poll the process is deaf to SIGTERM, SIGINT and SIGHUP: who stops a service signals all of
/// its processes, and the gateway is the last one that may go unguarded.
///
/// # Errors
/// At once when standard input is no pidfd, or when the process may not change addresses and fence; later
/// the system's, after everything has been tried.
pub async fn stand_guard(orders: &Orders) -> Result<Vec<IpAddr>> {
    let deaf = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let deaf = deaf.into_iter().map(signal).collect::<io::Result<Vec<_>>>();
    let _deaf = deaf.map_err(|error| failed(WATCHING, error))?;
    let process = watched_process()?;
    // Whatever can fail fails before it matters.
    let mut fence = orders.table.as_deref().map(Fence::attach).transpose()?;
    let mut addresses = Addresses::open()?;
    let interface = Interface::find(&orders.interface)?;

    let process = readable(process).map_err(|error| failed(WATCHING, error))?;
    let _ended = process.readable().await.map_err(|error| failed(WATCHING, error))?;

    let closed = fence.as_mut().map_or(Ok(()), |fence| fence.close(&orders.vips));
    // The same name may be another interface by now.
    let interface = Interface::find(&orders.interface).unwrap_or(interface);
    let stale = addresses.remove_stale(&interface, &orders.vips);
    closed?;
    Ok(stale?.removed)
}

/// Standard input, if it is a pidfd.
fn watched_process() -> Result<OwnedFd> {
    let input = io::stdin();
    let about = std::fs::read_to_string("/proc/self/fdinfo/0").map_err(|error| failed(WATCHING, error))?;
    if !about.lines().any(|line| line.starts_with("Pid:")) {
        return Err(Error::NoProcess);
    }
    input.as_fd().try_clone_to_owned().map_err(|error| failed(WATCHING, error))
}

fn failed(doing: &'static str, error: impl Into<io::Error>) -> Error {
    Error::Kernel { doing, source: error.into() }
}
