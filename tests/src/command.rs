//! Programs that run to their end.

use std::io::{Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually::yields;

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
/// When it cannot be started or does not end.
#[track_caller]
pub fn finish(command: &mut Command, input: &str, deadline: Duration) -> Finished {
    // Files, not pipes: nobody has to read while it runs.
    let file = || tempfile::tempfile().expect("a temporary file can be made");
    let (mut stdin, mut stdout, mut stderr) = (file(), file(), file());
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).expect("a temporary file is ours");
    let handle = |file: &std::fs::File| Stdio::from(file.try_clone().expect("a file can be shared"));
    command.stdin(handle(&stdin)).stdout(handle(&stdout)).stderr(handle(&stderr));
    let mut child = spawn(command);
    let status = yields(deadline, &format!("{command:?} ends"), || {
        child.0.try_wait().expect("the program is our child")
    });
    let read = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file is ours");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Finished { code: status.code(), stdout: read(&mut stdout), stderr: read(&mut stderr) }
}

/// A child that does not outlive the test.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Fails only when it has ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// # Panics
/// When there is no such program.
#[track_caller]
pub(crate) fn spawn(command: &mut Command) -> Guarded {
    match command.spawn() {
        Ok(child) => Guarded(child),
        Err(error) => panic!("cannot run {command:?} (scripts/install-test-deps installs it): {error}"),
    }
}
