//! Instances as plain processes of this machine.
//!
//! A process leads a group of its own: a Ctrl-C at our terminal reaches us alone, and we stop our
//! processes in our own order. It ends with us, however we end: the kernel kills it when we are killed.
//! Two kinds of descendants escape: those that leave the group (`setsid`) and, when we are killed,
//! those that the process itself started.

mod launcher;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use crate::DeployError;
pub(super) use launcher::Launcher;

/// Enough of a command line to recognise it in an error.
const MAX_NAME_CHARS: usize = 200;

/// Where a process's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To ours.
    Inherit,
    Discard,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// A path, or a name that is looked up in `PATH`.
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// All that the process sees of an environment, with our `PATH` where it has none of its own: what
    /// else stands in ours may be secret.
    pub environment: Vec<(OsString, OsString)>,
    pub output: Output,
}

/// Starts processes.
#[derive(Debug, Clone)]
pub struct ChildRuntime {
    launcher: Launcher,
}

/// A started process. Dropping it kills the process and its group.
#[derive(Debug)]
pub struct Process {
    command: Arc<str>,
    child: Child,
    pid: Pid,
    /// Becomes readable when the process has ended, and leaves it to us when to reap it.
    ended: AsyncFd<OwnedFd>,
    /// `None` until it is reaped. As long, the kernel gives its number to nobody else: signals sent
    /// before that cannot hit a stranger.
    status: Option<ExitStatus>,
    /// Held because the kernel kills the process when the thread that started it ends.
    _launcher: Launcher,
}

impl ChildRuntime {
    /// # Errors
    /// [`DeployError::Launcher`] when the system has no thread to spare.
    pub fn new() -> Result<Self, DeployError> {
        Launcher::start().map(|launcher| Self { launcher }).map_err(DeployError::Launcher)
    }

    /// # Errors
    /// [`DeployError::Start`] when there is no such program or it may not be run.
    pub async fn start(&self, spec: &ProcessSpec) -> Result<Process, DeployError> {
        let command: Arc<str> = spec.to_string().into();
        let failed = |source| DeployError::Start { command: command.clone(), source };
        let child = self.launcher.launch(spec.to_command()).await.map_err(failed)?;
        // On an error from here on, dropping `child` kills the process.
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let ended = watch_end(pid).map_err(failed)?;
        Ok(Process { command, child, pid, ended, status: None, _launcher: self.launcher.clone() })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits until the process has ended by itself, and kills what is left of its group: as in a
    /// container, the end of the first process is the end of all. May be cancelled and called again.
    ///
    /// # Errors
    /// [`DeployError::Wait`] when the system refuses to tell.
    pub async fn wait(&mut self) -> Result<ExitStatus, DeployError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let (command, pid) = (self.command.clone(), self.pid());
        let failed = |source| DeployError::Wait { command, pid, source };
        if let Err(error) = self.ended.readable().await {
            return Err(failed(error));
        }
        // Not reaped yet, so that the group's number still is this group's.
        self.signal(Signal::KILL)?;
        let status = self.child.wait().await.map_err(failed)?;
        self.status = Some(status);
        Ok(status)
    }

    /// Asks the process and its group to end, and kills them when the process is still there after
    /// `grace`. Nothing of the group survives. Once ended it returns the same again.
    ///
    /// # Errors
    /// [`DeployError::Signal`] when the process belongs to another user by now, or
    /// [`DeployError::Wait`].
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, DeployError> {
        if self.status.is_none() {
            self.signal(Signal::TERM)?;
            if let Ok(ended) = tokio::time::timeout(grace, self.wait()).await {
                return ended;
            }
            self.signal(Signal::KILL)?;
        }
        self.wait().await
    }

    /// To the whole group. Must not be called once the process is reaped.
    fn signal(&self, signal: Signal) -> Result<(), DeployError> {
        kill_process_group(self.pid, signal).map_err(|errno| DeployError::Signal {
            command: self.command.clone(),
            pid: self.pid(),
            source: errno.into(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none()
            && let Err(error) = self.signal(Signal::KILL)
        {
            tracing::warn!(%error, "a process may be left behind");
        }
        // Dropping `child` leaves the reaping to tokio.
    }
}

/// A descriptor of the process that becomes readable when it has ended.
pub(super) fn watch_end(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    watch(pidfd_open(pid, PidfdFlags::empty())?)
}

#[expect(unsafe_code, reason = "since tokio 1.54 a descriptor can only be registered by an unsafe call")]
pub(super) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, is the only owner of its descriptor, and names the same one until
    // it is dropped; `AsyncFd` takes it over and we never take it back.
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    watched.map_err(|refused| refused.into_parts().1)
}

impl ProcessSpec {
    fn to_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = || match self.output {
            Output::Inherit => Stdio::inherit(),
            Output::Discard => Stdio::null(),
        };
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        command
    }
}

/// The command line, shortened, for errors and logs.
impl fmt::Display for ProcessSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|word| OsStr::to_string_lossy(word))
            .collect();
        let line = words.join(" ");
        match line.char_indices().nth(MAX_NAME_CHARS) {
            Some((end, _)) => write!(formatter, "{}…", &line[..end]),
            None => formatter.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests;
