//! Which core does what while peers are compared, and how many files everybody may open.

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The proxy that has its turn, alone.
pub const PROXY: usize = 0;
/// The endpoint, the load generators and we.
pub const LOAD: usize = 1;

/// What HAProxy asks for with the connections that it is allowed; the others open a tenth of it.
const OPEN_FILES: u64 = 10_500;

/// Leaves the proxy's core, with all that this thread starts from now on, and lets it open enough files.
///
/// # Errors
/// When the machine has too few cores, or grants too few open files.
pub fn prepare() -> anyhow::Result<()> {
    let granted = sched_getaffinity(None).context("cannot tell which cores are ours")?;
    anyhow::ensure!(
        granted.is_set(PROXY) && granted.is_set(LOAD),
        "a comparison needs the cores {PROXY} and {LOAD}: one for the proxy, one for everybody else"
    );
    move_to(LOAD)?;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(
        most >= OPEN_FILES,
        "{OPEN_FILES} open files are needed and {most} allowed: raise `ulimit -Hn`"
    );
    let current = limit.current.unwrap_or(u64::MAX).max(OPEN_FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })
        .context("cannot raise the number of open files")
}

/// A process inherits its core from the thread that starts it. So this one moves for as long as that takes.
///
/// # Errors
/// When the thread cannot move.
pub fn on<T>(core: usize, start: impl FnOnce() -> T) -> anyhow::Result<T> {
    move_to(core)?;
    let started = start();
    move_to(LOAD)?;
    Ok(started)
}

fn move_to(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot move to core {core}"))
}
