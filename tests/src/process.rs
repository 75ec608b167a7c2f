//! One process of a gateway.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::eventually::yields;

/// Killed when it is dropped.
pub struct Process {
    kin: Kin,
    status: Option<ExitStatus>,
}

/// Whose child it was when it began.
enum Kin {
    Own(Child),
    /// Of somebody who has ended, and therefore ours: see [`Process::adopt`].
    Adopted(Pid),
}

impl Process {
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().expect("the binary can be started");
        Self { kin: Kin::Own(child), status: None }
    }

    /// A process whose parent has ended. It is our child where this process has made itself a child subreaper
    /// (prctl(2)) before.
    ///
    /// # Panics
    /// When `pid` is no number of a process.
    #[track_caller]
    pub fn adopt(pid: u32) -> Self {
        let pid = pid.try_into().ok().and_then(Pid::from_raw).expect("the number of a process");
        Self { kin: Kin::Adopted(pid), status: None }
    }

    pub fn pid(&self) -> u32 {
        match &self.kin {
            Kin::Own(child) => child.id(),
            // It was one.
            Kin::Adopted(pid) => pid.as_raw_nonzero().get().unsigned_abs(),
        }
    }

    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = match &self.kin {
            Kin::Own(child) => Pid::from_child(child),
            Kin::Adopted(pid) => *pid,
        };
        kill_process(pid, signal).expect("the process runs");
    }

    /// Without a chance to say anything; returns when it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // Fails only when it exits at this moment.
            match &mut self.kin {
                Kin::Own(child) => {
                    child.kill().ok();
                    self.status = child.wait().ok();
                }
                Kin::Adopted(pid) => {
                    kill_process(*pid, Signal::KILL).ok();
                    self.status = await_adopted(*pid, WaitOptions::empty()).ok().flatten();
                }
            }
        }
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = match &mut self.kin {
                Kin::Own(child) => child.try_wait(),
                Kin::Adopted(pid) => await_adopted(*pid, WaitOptions::NOHANG),
            }
            .expect("the process is our child");
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

fn await_adopted(pid: Pid, how: WaitOptions) -> io::Result<Option<ExitStatus>> {
    let ended = waitpid(Some(pid), how)?;
    Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
