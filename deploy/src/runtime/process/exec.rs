//! Runs a hook beside an instance's command: same user, folder, environment and limits.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::cgroup::Cgroup;
use super::state::Record;
use super::strays::Identity;
use crate::runtime::child::{Launcher, watch_end};
use crate::runtime::{ExecEnd, ExecOutcome, ExecRequest};

/// What is kept of a hook's output: enough for a message, or for a page of facts.
pub(super) const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// # Errors
/// When the command cannot be started; `NotFound` when there is none of that name.
pub(super) async fn run(
    launcher: &Launcher,
    leader: &Identity,
    record: &Record,
    cgroup: &Cgroup,
    request: &ExecRequest,
) -> io::Result<ExecOutcome> {
    let command = command(leader, record, cgroup, request)?;
    let mut child = launcher.launch(command).await?;
    // On an error from here on, dropping `child` kills the hook.
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or(io::ErrorKind::NotFound)?;
    let ended = watch_end(pid)?;
    let (mut out, mut error) = (child.stdout.take(), child.stderr.take());
    let mut output = Output::default();
    let attend = attend(&ended, &mut out, &mut error, &mut output);
    let timed_out = tokio::time::timeout(request.timeout, attend).await.is_err();
    // Not reaped yet, so that the group's number still is this group's.
    let _ended_meanwhile = kill_process_group(pid, Signal::KILL);
    let status = child.wait().await?;
    while !nothing_more(&mut out, &mut error, &mut output).await {}
    let end = match (timed_out, status.code()) {
        (true, _) => ExecEnd::TimedOut,
        (false, Some(code)) => ExecEnd::Exited(code),
        (false, None) => ExecEnd::Signalled(status.signal().unwrap_or_default()),
    };
    Ok(ExecOutcome { end, output: output.kept.freeze(), truncated: output.truncated })
}

fn command(
    leader: &Identity,
    record: &Record,
    cgroup: &Cgroup,
    request: &ExecRequest,
) -> io::Result<Command> {
    let (program, arguments) = request.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    for entry in leader.environment()? {
        if let Some(end) = entry.iter().position(|byte| *byte == b'=') {
            command.env(OsStr::from_bytes(&entry[..end]), OsStr::from_bytes(&entry[end + 1..]));
        }
    }
    command.envs(&request.environment).current_dir(&record.working_dir);
    if let Some((user, group)) = record.user {
        command.uid(user).gid(group);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    join(&mut command, &cgroup.entrances())?;
    Ok(command)
}

#[expect(unsafe_code, reason = "what runs between fork and exec can only be given by an unsafe call")]
fn join(command: &mut Command, entrances: &[impl AsRef<Path>]) -> io::Result<()> {
    let open = |path: &_| OpenOptions::new().write(true).open(AsRef::<Path>::as_ref(path));
    let entrances = entrances.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let join = move || {
        for entrance in &entrances {
            rustix::io::write(entrance, b"0")?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is sound. The closure writes to open
    // descriptors, allocates nothing and takes no lock.
    unsafe { command.pre_exec(join) };
    Ok(())
}

#[derive(Default)]
struct Output {
    kept: BytesMut,
    truncated: bool,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.truncated |= bytes.len() > room;
    }
}

/// Until the command has ended: what it left in the background may hold its output open for longer.
async fn attend(
    ended: &AsyncFd<OwnedFd>,
    out: &mut Option<impl AsyncRead + Unpin>,
    error: &mut Option<impl AsyncRead + Unpin>,
    output: &mut Output,
) {
    loop {
        tokio::select! {
            _ended_or_unknowable = ended.readable() => return,
            read = read(out) => output.add(&read),
            read = read(error) => output.add(&read),
        }
    }
}

/// Takes what there is, without waiting; whoever could still write is dead. One that escaped the
/// group and writes on is heard until what we keep is full.
async fn nothing_more(
    out: &mut Option<impl AsyncRead + Unpin>,
    error: &mut Option<impl AsyncRead + Unpin>,
    output: &mut Output,
) -> bool {
    tokio::select! {
        biased;
        read = read(out) => output.add(&read),
        read = read(error) => output.add(&read),
        () = std::future::ready(()) => return true,
    }
    output.truncated
}

/// Waits for ever when there is nothing left to read.
async fn read(source: &mut Option<impl AsyncRead + Unpin>) -> Bytes {
    let Some(open) = source else { return std::future::pending().await };
    let mut buffer = BytesMut::with_capacity(4096);
    match open.read_buf(&mut buffer).await {
        Ok(1..) => buffer.freeze(),
        Ok(0) | Err(_) => {
            *source = None;
            Bytes::new()
        }
    }
}
