//! A worker's thread: accept, tick, and end when it is told to.

mod accept;
mod doors;
mod handler;
mod meter;

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

pub use doors::Command;
use doors::Doors;
use meter::Meter;

use crate::metrics::WorkerMetrics;
use crate::worker::{Observers, Shared, Step, TICK, Worker};

/// Whether every worker carries out commands, and has opened all that it was told to. Waits for the slowest.
pub async fn confirm(workers: &[UnboundedSender<Command>]) -> bool {
    let ask = |worker: &UnboundedSender<Command>| {
        let (reply, answer) = oneshot::channel();
        worker.send(Command::Confirm(reply)).is_ok().then_some(answer)
    };
    // All are asked before the first is waited for.
    let answers: Vec<_> = workers.iter().map(ask).collect();
    for answer in answers {
        let Some(answer) = answer else { return false };
        if !answer.await.unwrap_or(false) {
            return false;
        }
    }
    true
}

/// Idle connections are looked through this often.
const SWEEP_TICKS: u32 = 10;
/// For connections that are being cut, to end by themselves.
const CUT_GRACE: Duration = Duration::from_millis(500);
const CUT_POLL: Duration = Duration::from_millis(10);

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerSeed {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub metrics: Arc<WorkerMetrics>,
    pub observers: Observers,
    /// What it accepts on, from the first listener to the last change.
    pub commands: UnboundedReceiver<Command>,
    /// Client connections that it may have open: each needs a second socket upstream.
    pub max_connections: usize,
}

/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn(seed: WorkerSeed) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(format!("worker-{}", seed.index)).spawn(move || {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(seed)),
            Err(error) => tracing::error!(%error, worker = seed.index, "cannot start the worker's runtime"),
        }
    })
}

async fn run(seed: WorkerSeed) {
    let WorkerSeed { index, shared, metrics, observers, mut commands, max_connections } = seed;
    // One socket to the client and one to the endpoint.
    let worker = Rc::new(Worker::new(index, shared, metrics, observers, 2 * max_connections));
    let mut doors = Doors::new(worker.clone(), max_connections);
    let mut abort = pin!(worker.shared.abort.cancelled());
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut meter = Meter::new(max_connections);
    let mut told = false;
    loop {
        tokio::select! {
            () = &mut abort => break cut(&worker).await,
            Some(command) = commands.recv() => {
                doors.obey(command);
                continue;
            }
            due = interval.tick() => meter.tick(&worker, due.elapsed()),
        }
        maintain(&worker, (worker.shared.began.elapsed().as_millis() / TICK.as_millis()) as u32);
        doors.sweep();
        if worker.is_draining() {
            if !std::mem::replace(&mut told, true) {
                worker.deadlines.wake_all();
            }
            if worker.open_connections() == 0 && doors.are_closed() {
                break;
            }
        }
    }
    Observers::tick(&worker, worker.deadlines.now());
}

/// What is done once per tick.
fn maintain(worker: &Worker, now: u32) {
    let is_sweep = now / SWEEP_TICKS != worker.deadlines.now() / SWEEP_TICKS;
    worker.deadlines.advance(now);
    Observers::tick(worker, now);
    worker.queues.look_again();
    worker.upstreams.yield_wanted();
    worker.http2_upstreams.yield_wanted();
    worker.slots.look_again();
    // Lets go of a table that no request has asked for.
    drop(worker.table());
    worker.detention.sweep(now);
    if is_sweep {
        if worker.sheds(Step::Stalled) || worker.sheds(Step::Idle) {
            // Whoever has waited for too long sees it when it is woken.
            worker.deadlines.wake_all();
        }
        worker.upstreams.sweep();
        worker.http2_upstreams.sweep();
        worker.rotations.sweep();
        worker.pipes.sweep();
    }
}

/// Ends every connection; each still has the chance to say so, to be counted and to be logged.
async fn cut(worker: &Worker) {
    worker.cut();
    let began = Instant::now();
    while worker.open_connections() > 0 && began.elapsed() < CUT_GRACE {
        tokio::time::sleep(CUT_POLL).await;
        worker.cut();
    }
}
