//! The thread that starts processes.
//!
//! The kernel ties "end with your parent" (`PR_SET_PDEATHSIG`) to the thread that forked, not to the
//! process: started from a pool's worker, a child would be killed when the pool retires that worker.
//! So one thread starts them all, and lives as long as anybody holds a [`Launcher`].

use std::io;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Starting takes a millisecond; more waiting than this is a caller's loop gone wrong, and it waits.
const QUEUE: usize = 16;

#[derive(Debug, Clone)]
pub(in crate::runtime) struct Launcher {
    launches: mpsc::Sender<Launch>,
}

#[derive(Debug)]
struct Launch {
    command: Command,
    /// Whose driver learns of the child's end.
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Launcher {
    pub(in crate::runtime) fn start() -> io::Result<Self> {
        let (launches, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("launcher".to_owned()).spawn(move || run(queue))?;
        Ok(Self { launches })
    }

    /// Must be called within a tokio runtime.
    pub(in crate::runtime) async fn launch(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let launch = Launch { command, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the thread that starts processes has ended");
        self.launches.send(launch).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn run(mut queue: mpsc::Receiver<Launch>) {
    while let Some(Launch { mut command, runtime, reply }) = queue.blocking_recv() {
        let _entered = runtime.enter();
        // A caller that gave up drops the reply, and with it the child that nobody would stop.
        command.process_group(0).kill_on_drop(true);
        die_with_parent(&mut command);
        let _unwanted = reply.send(command.spawn());
    }
}

/// Has the kernel kill the process when the calling thread ends. Not for set-user-ID programs: the
/// kernel forgets the wish when it runs one.
#[expect(unsafe_code, reason = "what runs between fork and exec can only be given by an unsafe call")]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let ask_kernel = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the wish was heard.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: in the child, between fork and exec, other threads' locks may be held for ever, so only
    // async-signal-safe work is sound. The closure makes two system calls, allocates nothing (an
    // `io::Error` made from an error number is a number) and takes no lock.
    unsafe { command.pre_exec(ask_kernel) };
}
