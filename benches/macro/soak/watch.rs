//! The processes of the gateway: which one serves, what each holds, and how the former ones end.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::soak::journal::{Journal, Kind};
use benches::soak::trend::Sample;
use benches::usage::{self, Cpu};
use tests::{DEADLINE, Metrics, Process};

use super::disturb::Trouble;
use super::lock;

/// From one sample to the next.
const EVERY: Duration = Duration::from_secs(2);

/// How the threads that move requests are called.
const WORKERS: &str = "worker-";

/// One process after the other.
#[derive(Default)]
pub struct Generations {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    all: Vec<Generation>,
    /// Those that drain, by their place in `all`.
    former: Vec<(usize, Process)>,
    /// What all of them have counted, up to their hand-overs.
    reasons: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
pub struct Generation {
    pub pid: u32,
    pub from: Duration,
    /// When the next one served.
    pub to: Option<Duration>,
    /// When it was gone, and how.
    pub ended: Option<(Duration, Option<i32>)>,
}

impl Generations {
    pub fn begin(&self, pid: u32, from: Duration) {
        lock(&self.inner).all.push(Generation { pid, from, to: None, ended: None });
    }

    /// `former` drains from now on, and `pid` serves.
    pub fn follow(&self, trouble: &Trouble, pid: u32, former: Process) {
        let now = trouble.journal.elapsed();
        let mut inner = lock(&self.inner);
        let last = inner.all.len() - 1;
        inner.all[last].to = Some(now);
        inner.former.push((last, former));
        inner.all.push(Generation { pid, from: now, to: None, ended: None });
    }

    /// Looks whether former ones have ended.
    pub fn reap(&self, trouble: &Trouble) {
        self.look(&trouble.journal);
    }

    /// How many have not ended.
    fn look(&self, journal: &Journal) -> usize {
        let mut inner = lock(&self.inner);
        let Inner { all, former, .. } = &mut *inner;
        former.retain_mut(|(at, process)| {
            let Some(status) = process.exited() else { return true };
            all[*at].ended = Some((journal.elapsed(), status.code()));
            if status.code() != Some(0) {
                journal.broken(format!("generation {} ended with {status}", *at + 1));
            }
            false
        });
        former.len()
    }

    /// After the last client has gone nothing keeps a former process.
    pub fn await_ends(&self, journal: &Journal) {
        if !tests::comes_true(DEADLINE * 2, || self.look(journal) == 0) {
            journal.broken(format!("{} former processes do not end", self.look(journal)));
        }
    }

    /// Adds what a process has counted up to now, by reason.
    pub fn note_reasons(&self, metrics: &Metrics) {
        let mut inner = lock(&self.inner);
        for line in metrics.text().lines().filter(|line| line.starts_with("sluice_requests_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let count = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0);
            let reason = label("reason").filter(|reason| !reason.is_empty());
            let name = format!("{} {}", label("app").unwrap_or_default(), reason.unwrap_or("ok".to_owned()));
            *inner.reasons.entry(name).or_default() += count;
        }
    }

    pub fn reasons(&self) -> BTreeMap<String, u64> {
        lock(&self.inner).reasons.clone()
    }

    pub fn all(&self) -> Vec<Generation> {
        lock(&self.inner).all.clone()
    }

    /// The place and the process of the one that serves, and of those that drain.
    fn living(&self) -> Vec<(usize, Generation)> {
        let inner = lock(&self.inner);
        let living = inner.all.iter().enumerate().filter(|(_, generation)| generation.ended.is_none());
        living.map(|(at, generation)| (at, generation.clone())).collect()
    }
}

/// Samples every process until `over`.
pub fn watch(journal: &Journal, generations: &Generations, over: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut used: BTreeMap<u32, (Instant, Cpu, Duration)> = BTreeMap::new();
    let mut busy = (Instant::now(), busy_cores());
    while !over.load(Ordering::Acquire) {
        thread::sleep(EVERY);
        let (then, before) = std::mem::replace(&mut busy, (Instant::now(), busy_cores()));
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let idle = cores - (busy.1 - before).as_secs_f64() / then.elapsed().as_secs_f64();
        for (at, generation) in generations.living() {
            let (now, cpu) = (Instant::now(), Cpu::of_tree(generation.pid));
            let runnable = usage::runnable(generation.pid, WORKERS);
            let last = used.insert(generation.pid, (now, cpu, runnable));
            let (cores, busy_workers) = last.map_or((0.0, 0.0), |(then, cpu_then, runnable_then)| {
                let passed = (now - then).as_secs_f64();
                let busy = runnable.saturating_sub(runnable_then);
                ((cpu - cpu_then).total.as_secs_f64() / passed, busy.as_secs_f64() / passed)
            });
            let files = open_files(generation.pid);
            // One that ended meanwhile has none, and nobody has reaped it yet.
            if files == 0 {
                continue;
            }
            let moment = journal.elapsed();
            samples.push(Sample {
                at: moment,
                generation: at + 1,
                age: moment.saturating_sub(generation.from),
                serves: generation.to.is_none(),
                pss_kib: usage::pss_kib(generation.pid),
                files,
                cores,
                busy_workers,
                idle: idle.max(0.0),
                right: journal.total(),
            });
        }
        progress(journal, samples.iter().rev().find(|sample| sample.serves));
    }
    samples
}

/// Says now and then that there is life.
fn progress(journal: &Journal, last: Option<&Sample>) {
    let Some(last) = last.filter(|last| last.at.as_secs() % 30 < EVERY.as_secs()) else { return };
    let counts: Vec<_> = Kind::ALL.iter().map(|kind| journal.count(*kind).to_string()).collect();
    println!(
        "[{:7.1}] generation {}: {} KiB, {} files, {:.2} cores, {:.2} idle; {}",
        last.at.as_secs_f64(),
        last.generation,
        last.pss_kib,
        last.files,
        last.cores,
        last.idle,
        counts.join(" ")
    );
}

pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn busy_cores() -> Duration {
    (0..thread::available_parallelism().map_or(1, usize::from)).map(usage::busy).sum()
}
