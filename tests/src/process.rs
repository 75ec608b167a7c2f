//! One process of a gateway.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::yields;

/// Killed when it is dropped.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().expect("the binary can be started");
        Self { child, status: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process runs");
    }

    /// Without a chance to say anything; returns when it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // Fails only when it exits at this moment.
            self.child.kill().ok();
            self.status = self.child.wait().ok();
        }
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the process is our child");
        }
        self.status
    }

    /// # Panics
    /// When it goes on running.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        yields(deadline, "the process exits", || self.exited())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
