//! The guard: a process that outlives the gateway and cleans up after it, whatever ended it.
//!
//! The gateway starts its own binary again and gives it a pidfd of itself as standard input. A pidfd becomes
//! readable when its process has ended, and never means another process that was given the same number. The
//! guard then closes the fence and takes the addresses off, within milliseconds, and tells the peers by the last words that the
//! gateway has left it ([`LastWords`], on a socket in the place of standard output), so that nobody waits for a lease of the dead;
//! without a guard the fence would stay open until the lease ends. Of a process that is stopped and not dead it sees
//! nothing: that is what the fence is for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::address::Addresses;
use super::error::{Error, Result};
use super::fence::Fence;
use super::interface::Interface;
use super::readable::readable;
use crate::peer::{LastWords, MAX_LAST_WORDS_BYTES};

const STARTING: &str = "starting the guard of the virtual IPs";
const WATCHING: &str = "watching the gateway's process";
/// For a guard to take what it is handed, and for the rest of what a dead gateway has handed over.
const PATIENCE: Duration = Duration::from_millis(500);
/// Above what a gateway has open before it has clients, and below every limit.
const HIGH_NUMBER: i32 = 900;
/// Of `/proc/{pid}/stat`'s flags: it exits.
const PF_EXITING: u32 = 0x4;
/// Between sendings of the same last words: a neighbour may have to be resolved, a datagram may be lost.
const REPEATS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(50)];

/// What a guard cleans up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    pub interface: String,
    /// The name of the fence's tables. `None`: there is no fence.
    pub table: Option<String>,
    pub vips: Vec<IpAddr>,
}

/// The two ends of the socket over which last words go. Of what a process has open when it ends Linux closes the highest number
/// first, and a packet socket takes it 16 ms: the gateway's end has a high number, and tells of the end before those.
#[derive(Debug)]
pub struct Line {
    ours: UnixStream,
    its: OwnedFd,
}

impl Line {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's: no descriptors are left.
    pub fn new() -> Result<Self> {
        let pair = StdUnixStream::pair().and_then(|(ours, its)| {
            // Wherever that cannot be had, the low one does, later.
            let high = rustix::io::fcntl_dupfd_cloexec(&ours, HIGH_NUMBER).map(StdUnixStream::from);
            let ours = high.unwrap_or(ours);
            ours.set_nonblocking(true)?;
            its.set_nonblocking(true)?;
            Ok((UnixStream::from_std(ours)?, OwnedFd::from(its)))
        });
        let (ours, its) = pair.map_err(|error| failed(STARTING, error))?;
        Ok(Self { ours, its })
    }
}

/// A guard of this process. Dropping it leaves it on guard.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    words: UnixStream,
}

impl Guard {
    /// Starts `command`, which must run [`stand_guard`], as the guard of this process. It has a process group of its own,
    /// so that a terminal's signals do not reach it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's: there is no such program, or no pidfd (Linux before 5.3).
    pub fn start(mut command: Command, line: Line) -> Result<Self> {
        let us = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| failed(STARTING, errno))?;
        let Line { ours, its } = line;
        command.stdin(Stdio::from(us)).stdout(Stdio::from(its)).process_group(0);
        let child = tokio::process::Command::from(command).spawn();
        Ok(Self { child: child.map_err(|error| failed(STARTING, error))?, words: ours })
    }

    /// What it is to send when this process has ended, in the place of what it was handed before.
    ///
    /// # Errors
    /// When the guard does not take them within half a second: start another one. Not to be cancelled but for that.
    pub async fn entrust(&mut self, words: &LastWords) -> io::Result<()> {
        let line = words.to_line();
        tokio::time::timeout(PATIENCE, self.words.write_all(&line)).await?
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
    let (process, pid) = watched_process()?;
    // Whatever can fail fails before it matters.
    let mut fence = orders.table.as_deref().map(Fence::attach).transpose()?;
    let mut addresses = Addresses::open()?;
    let interface = Interface::find(&orders.interface)?;

    let process = readable(process).map_err(|error| failed(WATCHING, error))?;
    let mut entrusted = Entrusted::open();
    tokio::select! {
        ended = process.readable() => drop(ended.map_err(|error| failed(WATCHING, error))?),
        () = entrusted.follow(pid) => {}
    }

    let closed = fence.as_mut().map_or(Ok(()), |fence| fence.close(&orders.vips));
    // The same name may be another interface by now.
    let interface = Interface::find(&orders.interface).unwrap_or(interface);
    let stale = addresses.remove_stale(&interface, &orders.vips);
    closed?;
    // Without a fence the addresses have to be off.
    if fence.is_some() || stale.is_ok() {
        entrusted.finish().await;
        tell(&entrusted.newest).await;
    }
    Ok(stale?.removed)
}

/// The last words that were handed over, as they come.
struct Entrusted {
    /// `None`: there is nobody who hands over any.
    source: Option<UnixStream>,
    line: Vec<u8>,
    newest: LastWords,
}

impl Entrusted {
    /// What is no socket hands over nothing.
    fn open() -> Self {
        let source = io::stdout().as_fd().try_clone_to_owned().map(StdUnixStream::from).and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        Self { source: source.ok(), line: Vec::new(), newest: LastWords::default() }
    }

    /// Returns when the process that writes is about to end. Its end of the socket is closed before the process has ended, but
    /// also when it has no use for a guard any more.
    async fn follow(&mut self, pid: u32) {
        self.read_to_end().await;
        if !is_exiting(pid) {
            std::future::pending::<()>().await;
        }
    }

    /// What has been written before the process ended. Nobody writes any more.
    async fn finish(&mut self) {
        // Somebody who has the other end open in spite of that costs this much.
        let _ = tokio::time::timeout(PATIENCE, self.read_to_end()).await;
    }

    /// Can be cancelled: what was read is kept.
    async fn read_to_end(&mut self) {
        let mut bytes = [0; 4 * 1024];
        while let Some(source) = &mut self.source {
            match source.read(&mut bytes).await {
                Ok(length @ 1..) if self.line.len() + length <= MAX_LAST_WORDS_BYTES => {
                    self.line.extend(&bytes[..length]);
                    self.take_lines();
                }
                _ => self.source = None,
            }
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            match LastWords::from_line(&self.line[..end]) {
                Ok(words) => self.newest = words,
                Err(error) => tracing::warn!(%error, "the gateway's last words are not understood"),
            }
            self.line.drain(..=end);
        }
    }
}

/// Lost where no socket can be had: then the peers wait for the lease to end.
async fn tell(words: &LastWords) {
    let bound = [UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)), UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))];
    let [v4, v6] =
        bound.map(|socket| socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket)));
    for pause in REPEATS {
        tokio::time::sleep(pause).await;
        for word in &words.0 {
            let socket = if word.to.is_ipv4() { &v4 } else { &v6 };
            if let Err(error) = socket.as_ref().map(|socket| socket.send_to(&word.datagram, word.to)) {
                tracing::warn!(%error, peer = %word.to, "a peer cannot be told that the gateway has ended");
            }
        }
    }
}

/// Standard input, if it is a pidfd, and the number of its process.
fn watched_process() -> Result<(OwnedFd, u32)> {
    let input = io::stdin();
    let about = std::fs::read_to_string("/proc/self/fdinfo/0").map_err(|error| failed(WATCHING, error))?;
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    let pid = pid.ok_or(Error::NoProcess)?;
    let process = input.as_fd().try_clone_to_owned().map_err(|error| failed(WATCHING, error))?;
    Ok((process, pid))
}

/// Whether no thread of the process will run its program again: each has begun to exit, in the kernel
/// (`PF_EXITING`, the flags of proc(5)'s `stat`). What cannot be read is no proof.
fn is_exiting(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut any = false;
    for thread in threads {
        let Ok(thread) = thread else { return false };
        match std::fs::read_to_string(thread.path().join("stat")) {
            Ok(stat) if flags(&stat).is_some_and(|flags| flags & PF_EXITING != 0) => any = true,
            // Gone since it was listed.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            _ => return false,
        }
    }
    any
}

/// The ninth field. The second one is a name in brackets, and may hold anything.
fn flags(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(6)?.parse().ok()
}

fn failed(doing: &'static str, error: impl Into<io::Error>) -> Error {
    Error::Kernel { doing, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = "17 (a) 9 (b) S 1 17 17 0 -1 4194564 100 0 0 0 0 0";
        assert_eq!(flags(stat), Some(4_194_564));
        assert_eq!(flags("17 (a) S 1"), None);
        assert_eq!(flags(""), None);
    }

    #[test]
    fn process_that_runs_is_not_exiting_and_one_that_is_gone_proves_nothing() {
        assert!(!is_exiting(std::process::id()));
        assert!(!is_exiting(u32::MAX));
        let mut child = Command::new("true").spawn().unwrap();
        // Waited for by nobody yet: it has ended, and its number is still its own.
        let ended = rustix::process::waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        );
        ended.unwrap();
        assert!(is_exiting(child.id()));
        child.wait().unwrap();
    }
}
