//! `sluice upgrade`: starts a process that takes over, and says what became of it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use super::channel::Channel;
use super::message::{Message, PROTOCOL, Status, Wants};
use super::{HELLO_TIMEOUT, STEP_TIMEOUT, socket};

/// Between two looks at the new process.
const POLL: Duration = Duration::from_millis(50);
/// Each step of a hand-over has its own limit, which ends it; this is beyond all of them.
const LIMIT: Duration = STEP_TIMEOUT.saturating_mul(4);

/// Starts this binary with the configuration at `config`, to take over from the process that answers at
/// `path`. Returns once it serves: who served and who does.
///
/// # Errors
/// When nobody answers, or when the new process ends before it serves: the former one goes on then.
pub async fn run(config: &Path, path: &Path) -> anyhow::Result<(Status, Status)> {
    let former = ask(path).await?;
    let former = former.with_context(|| {
        format!("no running gateway answers at {}; start one with `sluice run`", path.display())
    })?;
    let mut child = start(config)?;
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().context("cannot wait for the new process")? {
            bail!("the new process ended ({status}); process {} goes on", former.pid);
        }
        // Between the two nobody may answer for a moment.
        if let Ok(Some(now)) = ask(path).await
            && now.pid == child.id()
        {
            return Ok((former, now));
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the new process {} does not serve after {LIMIT:?}", child.id())
}

fn start(config: &Path) -> anyhow::Result<Child> {
    let binary = std::env::current_exe().context("cannot tell where this binary is")?;
    let mut command = Command::new(&binary);
    // A process group of its own: what the terminal sends to us is not for it.
    command.args(["run", "--takeover", "--config"]).arg(config).stdin(Stdio::null()).process_group(0);
    command.spawn().with_context(|| format!("cannot start {}", binary.display()))
}

/// Who serves; `None` when nobody answers.
async fn ask(path: &Path) -> anyhow::Result<Option<Status>> {
    let Some(stream) = socket::connect(path)? else { return Ok(None) };
    let channel = Channel::new(tokio::net::UnixStream::from_std(stream)?);
    let asking = async {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        channel.send(&Message::Hello { protocol: PROTOCOL, version, wants: Wants::Status }).await?;
        channel.receive().await
    };
    match timeout(HELLO_TIMEOUT, asking).await.context("the running gateway does not answer")? {
        Ok(Message::Status(status)) => Ok(Some(status)),
        Ok(other) => bail!("the running gateway said {}", other.name()),
        Err(error) => Err(error.into()),
    }
}
