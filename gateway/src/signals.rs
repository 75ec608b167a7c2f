//! What the outside asks of the process.

use anyhow::Context as _;
use gateway::handover::Nudge;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLog,
    /// SIGTERM or SIGINT.
    Stop,
}

/// What a process hears that only drains.
impl From<Asked> for Nudge {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Reload | Asked::ReopenLog => Self::ReopenLog,
            Asked::Stop => Self::Hurry,
        }
    }
}

#[derive(Debug)]
pub struct Signals {
    reload: Signal,
    reopen_log: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// When the system refuses a handler. Must be called within a tokio runtime.
    pub fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            reload: listen(SignalKind::hangup())?,
            reopen_log: listen(SignalKind::user_defined1())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.reload.recv() => Asked::Reload,
            _ = self.reopen_log.recv() => Asked::ReopenLog,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    /// Waits for the next [`Asked::Stop`].
    pub async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
