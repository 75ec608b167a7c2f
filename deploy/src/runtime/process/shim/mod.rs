//! The process that looks after one instance.
//!
//! It is our own binary, started anew, and the parent of the instance's command: so it learns how the
//! command ends, whoever else was started, stopped or killed meanwhile. It stands between Sluice and
//! the instance, as an instance must outlive Sluice, and only a parent is told of an end. Everything
//! else it does follows from being there: it keeps the output, and ends what the command left behind.
//!
//! - It is told what to do on its standard input, so that secrets are neither in its arguments nor on
//!   disk, and a half-told order is no order.
//! - It has one thread: the kernel ties "end with your parent" to the thread that forked. If the shim is
//!   killed its command dies too: nothing runs unobserved.
//! - Processes that leave the command's group, its session, even their parent, become its children
//!   (`PR_SET_CHILD_SUBREAPER`). It ends them, as a container would, when the command has ended.
//! - It answers to a named pipe in the instance's folder, not to signals: a write reaches it or nobody.

mod order;
mod output;
mod spawn;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
    pidfd_open, set_child_subreaper, waitid, waitpid,
};

use super::state::{End, Folder, Held, ShimRecord};
use super::strays::Identity;
use super::{cgroup, time};
pub(super) use order::{Answer, Order};
use output::Output;

/// Adopted processes that ended by themselves are reaped this often; they cost a number till then.
const REAP_INTERVAL: Duration = Duration::from_secs(30);
/// Killing what a command left takes a round of the scheduler for every generation of it.
const SWEEP_DEADLINE: Duration = Duration::from_secs(10);
const SWEEP_POLL: Duration = Duration::from_millis(5);

/// What the control pipe carries.
pub(super) const ASK_TO_END: u8 = b'T';
pub(super) const KILL: u8 = b'K';

/// Runs a shim: the whole of the process that calls it, which must not have started a thread.
///
/// The order is read from standard input, the answer goes to standard output; see
/// [`ProcessRuntime`](super::ProcessRuntime).
pub fn run() -> ExitCode {
    let order = match Order::read(io::stdin().lock()) {
        Ok(order) => order,
        Err(error) => return refuse(&Answer::failed(&error)),
    };
    let folder = Folder { path: order.folder.clone() };
    match Shim::start(order, folder) {
        Ok(shim) => {
            // Nobody may be there to hear it any more; the instance runs all the same.
            let _nobody_listens = answer(&Answer::Started);
            shim.attend();
            ExitCode::SUCCESS
        }
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Answer) -> ExitCode {
    let _nobody_listens = answer(refusal);
    ExitCode::FAILURE
}

fn answer(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

struct Shim {
    folder: Folder,
    child: Child,
    leader: Pid,
    /// Readable when the leader has ended.
    ended: OwnedFd,
    control: OwnedFd,
    output: Output,
    cgroups: Vec<PathBuf>,
    out_of_memory: Option<cgroup::OomCounter>,
    /// The kernel lets go of it when we end.
    _lock: Held,
}

impl Shim {
    fn start(order: Order, folder: Folder) -> Result<Self, Answer> {
        let failed = |error: io::Error| Answer::failed(&error);
        // Fails where we lead a group already: then nobody's Ctrl-C reaches us either.
        let _leads_already = rustix::process::setsid();
        let lock = folder.hold().map_err(failed)?.ok_or(Answer::Held)?;
        let wanted = folder.read_record().map_err(failed)?;
        if wanted.is_none_or(|record| record.created_at != order.created_at) {
            return Err(Answer::Failed("the instance was removed before it was started".to_owned()));
        }
        if folder.read_shim().map_err(failed)?.is_some() || folder.read_end().map_err(failed)?.is_some() {
            return Err(Answer::Held);
        }
        if let Some(entrance) = &order.own_cgroup {
            let _stays_where_it_is = std::fs::write(entrance, "0");
        }
        set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| failed(errno.into()))?;
        let shim = Identity::of(rustix::process::getpid().as_raw_nonzero().get())
            .ok_or_else(|| failed(io::Error::other("there is no /proc")))?;
        let mut record = ShimRecord { shim, leader: None, started_at: time::micros_now() };
        let control = open_control(&folder).map_err(failed)?;
        let mut output = Output::open(&folder.logs(), order.keep).map_err(failed)?;
        folder.write_shim(&record).map_err(failed)?;

        let mut child = spawn::spawn(&order)?;
        // On an error from here on we end, and the command with us.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let leader = pid.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        let ended = pidfd_open(leader, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        output.take(&mut child).map_err(failed)?;
        record.leader = Identity::of(leader.as_raw_nonzero().get());
        folder.write_shim(&record).map_err(failed)?;
        let out_of_memory = order.oom_counter;
        Ok(Self {
            folder,
            child,
            leader,
            ended,
            control,
            output,
            cgroups: order.cgroups,
            out_of_memory,
            _lock: lock,
        })
    }

    /// Until the command has ended and nothing of it is left.
    fn attend(mut self) {
        while !self.has_ended() {
            if self.nothing_happens() {
                self.reap();
            }
            self.output.drain();
            self.obey();
        }
        // The leader is not reaped yet, so that its number still names its group and nobody else's.
        let _nobody_else = kill_process_group(self.leader, Signal::KILL);
        let status = self.child.wait();
        self.sweep();
        self.output.finish();
        let end = self.end(status);
        if let Err(error) = self.folder.write_end(&end) {
            // Whoever looks next finds an abandoned instance, and says that nobody saw how it ended.
            eprintln!("cannot write how the instance ended: {error}");
        }
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.leader), options), Ok(None))
    }

    /// Waits until there is something to do, or for so long that there is time to tidy up.
    fn nothing_happens(&self) -> bool {
        let mut wanted =
            vec![PollFd::new(&self.ended, PollFlags::IN), PollFd::new(&self.control, PollFlags::IN)];
        wanted.extend(self.output.sources().map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)));
        let timeout = Timespec::try_from(REAP_INTERVAL).ok();
        poll(&mut wanted, timeout.as_ref()) == Ok(0)
    }

    fn obey(&self) {
        let mut words = [0; 64];
        while let Ok(count @ 1..) = rustix::io::read(&self.control, &mut words) {
            for word in &words[..count] {
                match *word {
                    ASK_TO_END => drop(kill_process_group(self.leader, Signal::TERM)),
                    KILL => {
                        let _ended_meanwhile = kill_process_group(self.leader, Signal::KILL);
                        cgroup::kill(&self.cgroups);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reaps adopted processes that have ended.
    fn reap(&self) {
        for child in children().into_iter().filter(|child| *child != self.leader) {
            let _runs_still = waitpid(Some(child), WaitOptions::NOHANG);
        }
    }

    /// Kills what the command left: by its cgroup, and whoever became our child.
    fn sweep(&self) {
        if !self.cgroups.is_empty() {
            cgroup::kill(&self.cgroups);
        }
        let until = Instant::now() + SWEEP_DEADLINE;
        loop {
            let left = children();
            if left.is_empty() || Instant::now() > until {
                return;
            }
            for child in left {
                let _ended_meanwhile = kill_process(child, Signal::KILL);
                let _ending = waitpid(Some(child), WaitOptions::NOHANG);
            }
            std::thread::sleep(SWEEP_POLL);
        }
    }

    fn end(&self, status: io::Result<std::process::ExitStatus>) -> End {
        use std::os::unix::process::ExitStatusExt;

        let (code, signal) = status.map_or((None, None), |status| (status.code(), status.signal()));
        let killed = signal == Some(Signal::KILL.as_raw());
        let outgrown = self.out_of_memory.as_ref().is_some_and(|counter| counter.read() > 0);
        let out_of_memory = killed && outgrown;
        let reason = match (code, signal) {
            _ if out_of_memory => "the kernel killed it as it outgrew its memory limit".to_owned(),
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "nobody saw how it ended".to_owned(),
        };
        End { code, signal, out_of_memory, reason, at: time::micros_now() }
    }
}

/// Those of this process, which has one thread that starts any.
fn children() -> Vec<Pid> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let mut children = Vec::new();
    for list in lists {
        children.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

/// Open for writing too, so that it never comes to an end.
fn open_control(folder: &Folder) -> io::Result<OwnedFd> {
    let path = folder.control();
    match rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}
