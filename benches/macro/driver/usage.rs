//! What a process and all that it started have used, as `/proc` tells.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// Linux reports CPU times in hundredths of a second to user space, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process tree since each of its processes began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// As the scheduler counts it, in nanoseconds. Only of threads that live: a proxy's live as long as it.
    pub total: Duration,
    /// The two parts of it, in ticks.
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn of_tree(pid: u32) -> Self {
        tree(pid).into_iter().map(Self::of_process).fold(Self::default(), |sum, one| Self {
            total: sum.total + one.total,
            user: sum.user + one.user,
            system: sum.system + one.system,
        })
    }

    /// Nothing for a process that has ended.
    fn of_process(pid: u32) -> Self {
        let stat = read(&format!("/proc/{pid}/stat"));
        let total = threads(pid).into_iter().map(|thread| {
            let schedstat = read(&format!("/proc/{pid}/task/{thread}/schedstat"));
            Duration::from_nanos(first_number(&schedstat))
        });
        // The name in parentheses may hold spaces. What follows it starts with field 3; utime and stime
        // are fields 14 and 15 (proc(5)).
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
        let mut ticks = || TICK * fields.next().map_or(0, |field| field.parse().unwrap_or(0));
        Self { total: total.sum(), user: ticks(), system: ticks() }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// `pid` and all its living descendants.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&member) = found.get(next) {
        for thread in threads(member) {
            let children = read(&format!("/proc/{member}/task/{thread}/children"));
            found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

/// How long the threads of `pid` whose names begin with `name` have been at work or waited for a core, since they
/// began.
pub fn runnable(pid: u32, name: &str) -> Duration {
    let of_thread = |thread: u32| {
        let task = format!("/proc/{pid}/task/{thread}");
        if !read(&format!("{task}/comm")).starts_with(name) {
            return Duration::ZERO;
        }
        // Nanoseconds that it ran, and that it could have (Documentation/scheduler/sched-stats.rst).
        let schedstat = read(&format!("{task}/schedstat"));
        let numbers =
            schedstat.split_ascii_whitespace().take(2).filter_map(|number| number.parse::<u64>().ok());
        Duration::from_nanos(numbers.sum())
    };
    threads(pid).into_iter().map(of_thread).sum()
}

/// CPU time of each of a process's threads since it began, by the thread's id and with its name.
pub fn of_threads(pid: u32) -> BTreeMap<u32, (String, Duration)> {
    let of_thread = |thread: u32| {
        let task = format!("/proc/{pid}/task/{thread}");
        let name = read(&format!("{task}/comm")).trim_end().to_owned();
        let used = Duration::from_nanos(first_number(&read(&format!("{task}/schedstat"))));
        (thread, (name, used))
    };
    threads(pid).into_iter().map(of_thread).collect()
}

/// What each thread used in between, the busiest first. Threads that began meanwhile began with nothing.
pub fn difference(
    before: &BTreeMap<u32, (String, Duration)>,
    after: &BTreeMap<u32, (String, Duration)>,
) -> Vec<(String, Duration)> {
    let used = after.iter().map(|(thread, (name, used))| {
        let former = before.get(thread).map_or(Duration::ZERO, |(_, used)| *used);
        (name.clone(), used.saturating_sub(former))
    });
    let mut used: Vec<_> = used.collect();
    used.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
    used
}

/// Memory of the tree in KiB; a page that several of its processes share counts once.
pub fn pss_kib(pid: u32) -> u64 {
    let of_process = |pid: u32| {
        let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
        rollup.lines().find_map(|line| line.strip_prefix("Pss:")).map_or(0, first_number)
    };
    tree(pid).into_iter().map(of_process).sum()
}

/// How long `core` has been at work since the machine started, interrupts included.
pub fn busy(core: usize) -> Duration {
    busy_in(&read("/proc/stat"), core)
}

fn busy_in(stat: &str, core: usize) -> Duration {
    let name = format!("cpu{core} ");
    let fields = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
    let ticks = fields.split_ascii_whitespace().map(|field| field.parse::<u32>().unwrap_or(0)).take(8);
    // The fourth and the fifth are idle and iowait (proc(5)).
    ticks.enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| TICK * ticks).sum()
}

fn threads(pid: u32) -> Vec<u32> {
    let folder = fs::read_dir(format!("/proc/{pid}/task"));
    let names = folder.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Empty for what has ended.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Of another process: what threads of ours did that have ended is in the ticks and not in the total.
    #[test]
    fn work_is_counted() {
        let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let used = || Cpu::of_tree(busy.id());
        while used().user + used().system < TICK * 5 {
            std::hint::black_box(read("/proc/self/stat"));
        }
        assert!(used().total >= TICK * 4, "{:?}", used());
        busy.kill().unwrap();
        busy.wait().unwrap();
    }

    #[test]
    fn a_thread_at_work_is_runnable() {
        let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        while runnable(busy.id(), "sh") < TICK * 5 {
            assert!(busy.try_wait().unwrap().is_none());
        }
        assert_eq!(runnable(busy.id(), "nobody"), Duration::ZERO);
        busy.kill().unwrap();
        busy.wait().unwrap();
    }

    #[test]
    fn children_of_children_belong_to_the_tree() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo started; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let found = tree(std::process::id());
        let of_shell = tree(shell.id());
        for &member in of_shell.iter().rev() {
            let pid = rustix::process::Pid::from_raw(member.try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
        assert_eq!(of_shell.len(), 2, "{of_shell:?}");
        assert!(of_shell.iter().all(|member| found.contains(member)), "{of_shell:?} {found:?}");
    }

    #[test]
    fn waiting_is_no_work() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 2000 8 16 32 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_in(stat, 0), TICK * 63);
        assert_eq!(busy_in(stat, 1), TICK * 7);
        assert_eq!(busy_in(stat, 2), Duration::ZERO);
    }

    #[test]
    fn what_has_ended_uses_nothing() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(Cpu::of_tree(child.id()), Cpu::default());
        assert_eq!(pss_kib(child.id()), 0);
    }
}
