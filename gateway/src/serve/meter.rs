//! Once a tick: how much a worker has to do, and what it gives up therefore.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::worker::{Load, Overload, Shedding, Worker};

/// A change is logged at once, and not again before this: a load that comes and goes is one piece of news.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub struct Meter {
    overload: Overload,
    /// Connections that the worker may have.
    most: usize,
    /// Processor time of this thread, up to the last tick.
    used: Duration,
    logged: Option<(Instant, Shedding)>,
}

impl Meter {
    pub fn new(most: usize) -> Self {
        Self { overload: Overload::default(), most, used: thread_time(), logged: None }
    }

    /// `late` is how long ago the tick was due.
    pub fn tick(&mut self, worker: &Worker, late: Duration) {
        let used = thread_time();
        // Time in which the thread was not running is somebody else's: doing less would not bring it back.
        let lag = late.min(used.saturating_sub(std::mem::replace(&mut self.used, used)));
        let lent = worker.buffers.lent_bytes();
        let budget = worker.shared.buffer_budget.load(Ordering::Relaxed).max(1);
        let load = Load {
            sockets: thousandths(worker.open_connections() + worker.detention.len(), self.most),
            memory: thousandths(lent, budget),
            lag: u32::try_from(lag.as_millis()).unwrap_or(u32::MAX),
        };
        worker.metrics.lag_millis.set(i64::from(load.lag));
        worker.metrics.buffer_bytes.set(i64::try_from(lent).unwrap_or(i64::MAX));
        let shedding = self.overload.update(&load);
        worker.shed(shedding);
        self.report(worker.index, shedding, load);
    }

    fn report(&mut self, worker: usize, now: Shedding, load: Load) {
        let (at, told) = self.logged.unzip();
        let is_news = now != told.unwrap_or_default();
        if !is_news || at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.logged = Some((Instant::now(), now));
        let Load { sockets, memory, lag } = load;
        if now.is_none() {
            return tracing::info!(worker, sockets, memory, lag, "no longer overloaded");
        }
        let steps: Vec<_> = now.steps().map(|step| step.as_str()).collect();
        let steps = steps.join(", ");
        tracing::warn!(worker, sockets, memory, lag, %steps, "overloaded: giving up {steps}");
    }
}

fn thousandths(part: usize, whole: usize) -> u32 {
    u32::try_from(part.saturating_mul(1_000) / whole.max(1)).unwrap_or(u32::MAX)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
