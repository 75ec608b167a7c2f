//! A program on a core of its own, ended with all that it started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use benches::{cores, usage};
use rustix::process::{Pid, Signal, kill_process};
use tests::comes_true;

const START_DEADLINE: Duration = Duration::from_secs(20);
/// To let go of its connections, and for an instrumented build to write down what it counted.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// What an error shows of a program's own words.
const TAIL_LINES: usize = 12;

pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// With both outputs in the file `output`.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(command: &mut Command, core: usize, output: &Path) -> anyhow::Result<Self> {
        let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = cores::on(core, || command.spawn())?;
        let child = child.with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self { child, output: output.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// When the program ends before, or takes too long.
    pub fn wait_until(&mut self, what: &str, mut is_ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let child = &mut self.child;
        let mut ended = None;
        let came_true = comes_true(START_DEADLINE, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || is_ready()
        });
        let why = match ended {
            Some(status) => format!("ended with {status}"),
            None if came_true => return Ok(()),
            None => "took too long".to_owned(),
        };
        anyhow::bail!("{what}: the program {why}. Its last words:\n{}", self.tail())
    }

    /// Asks it to end at once, as Ctrl-C does: SIGTERM means other things to some peers. Whoever is left then is
    /// killed.
    pub fn stop(&mut self) {
        let members = usage::tree(self.pid());
        let is_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if !is_ended(&mut self.child) {
            // Both fail only when it ends at this moment.
            kill_process(Pid::from_child(&self.child), Signal::INT).ok();
            if !comes_true(STOP_DEADLINE, || is_ended(&mut self.child)) {
                self.child.kill().ok();
                self.child.wait().ok();
            }
        }
        for member in &members[1..] {
            end_orphan(*member);
        }
    }

    fn tail(&self) -> String {
        let bytes = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends what its parent has left behind. Another process that was given the number meanwhile has a parent, so
/// it is left alone.
fn end_orphan(pid: u32) {
    const ADOPTER: u32 = 1;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1)?.parse().ok());
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(ADOPTER), Some(pid)) = (parent, pid) {
        kill_process(pid, Signal::KILL).ok();
    }
}
