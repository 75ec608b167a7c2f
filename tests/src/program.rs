//! Programs that run until the test is over: servers that are not ours, and clients that are watched.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::DEADLINE;
use crate::command::{Guarded, spawn};
use crate::eventually::yields;

/// What a failed test prints of a program's own words.
const TAIL_LINES: usize = 40;

/// A process that is killed when it is dropped.
pub struct Program {
    name: String,
    child: Guarded,
    /// Holds what it prints: files, so that nobody has to read while it runs.
    folder: TempDir,
}

impl Program {
    /// # Panics
    /// When it is not installed.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let file = |name| File::create(folder.path().join(name)).expect("the temporary folder is ours");
        command.stdin(Stdio::piped()).stdout(file("stdout")).stderr(file("stderr"));
        let child = spawn(command);
        Self { name: format!("{command:?}"), child, folder }
    }

    /// Gives it a line on its standard input.
    ///
    /// # Panics
    /// When it does not read any more.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.0.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    /// Polls `is_ready`, and the process.
    ///
    /// # Panics
    /// When it ends, or is not ready in time.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, mut is_ready: impl FnMut(&Self) -> Option<T>) -> T {
        // Servers of this size start slowly where every core is busy.
        yields(DEADLINE * 2, what, || {
            let found = is_ready(self);
            let ended = self.exited();
            assert!(found.is_some() || ended.is_none(), "{} ended: {ended:?}", self.name);
            found
        })
    }

    /// The first line of its standard output that `pick` takes.
    ///
    /// # Panics
    /// When it ends before, or there is none in time.
    #[track_caller]
    pub fn wait_for_line<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for(what, |program| program.lines().iter().find_map(|line| pick(line)))
    }

    /// The complete lines of its standard output.
    pub fn lines(&self) -> Vec<String> {
        let text = self.read("stdout");
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(str::to_owned).collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.0.try_wait().expect("the program is our child")
    }

    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).expect("the program runs");
    }

    /// Ends it as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only when it has ended by itself.
        self.child.0.kill().ok();
        self.child.0.wait().ok();
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.read("stdout") + &self.read("stderr");
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            eprintln!("--- last words of {} ---\n{}\n---", self.name, tail.join("\n"));
        }
    }
}
