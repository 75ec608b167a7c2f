//! Starts the instance's command.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::order::{Answer, Order};

pub(super) fn spawn(order: &Order) -> Result<Child, Answer> {
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(Answer::Failed("the command is empty".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(order.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&order.working_dir).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some((user, group)) = order.user {
        command.uid(user).gid(group);
    }
    let entrances = order.entrances.iter().map(|path| OpenOptions::new().write(true).open(path));
    let entrances = entrances.collect::<io::Result<Vec<_>>>().map_err(|error| Answer::failed(&error))?;
    prepare(&mut command, entrances);
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Answer::NoSuchCommand(format!("there is no program `{program}`")),
        io::ErrorKind::PermissionDenied => Answer::NoSuchCommand(format!("`{program}` may not be run")),
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Answer::OutOfResources(error.to_string()),
        _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            Answer::NoSuchCommand(format!("`{program}` is no program"))
        }
        _ => Answer::Failed(format!("cannot start `{program}`: {error}")),
    })
}

/// Has the kernel kill the command when we end, and puts it into its cgroups before it runs.
#[expect(unsafe_code, reason = "what runs between fork and exec can only be given by an unsafe call")]
fn prepare(command: &mut Command, entrances: Vec<File>) {
    let parent = getpid();
    let join = move || {
        for entrance in &entrances {
            rustix::io::write(entrance, b"0")?;
        }
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the wish was heard.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: between fork and exec only async-signal-safe work is sound. The closure makes system calls
    // on descriptors that are open, allocates nothing and takes no lock.
    unsafe { command.pre_exec(join) };
}
