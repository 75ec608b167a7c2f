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
    pub fn start(mut command: Command) -> Result<Self> {
        let us = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| failed(STARTING, errno))?;
        let (ours, its) = UnixStream::pair()
            .and_then(|(ours, its)| Ok((ours, OwnedFd::from(its.into_std()?))))
            .map_err(|error| failed(STARTING, error))?;
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
    let process = watched_process()?;
    // Whatever can fail fails before it matters.
    let mut fence = orders.table.as_deref().map(Fence::attach).transpose()?;
    let mut addresses = Addresses::open()?;
    let interface = Interface::find(&orders.interface)?;

    let process = readable(process).map_err(|error| failed(WATCHING, error))?;
    let mut entrusted = Entrusted::open();
    tokio::select! {
        ended = process.readable() => drop(ended.map_err(|error| failed(WATCHING, error))?),
        never = entrusted.follow() => match never {},
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

    async fn follow(&mut self) -> std::convert::Infallible {
        self.read_to_end().await;
        std::future::pending().await
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
