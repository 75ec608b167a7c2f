//! A worker's thread: accept, tick, and end when it is told to.

mod handler;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use handler::Handler;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::access_log::WorkerLog;
use crate::listener::Bound;
use crate::metrics::WorkerMetrics;
use crate::worker::{Deadline, Shared, TICK, Worker};

/// Idle connections are looked through this often.
const SWEEP_TICKS: u32 = 10;
/// After the process ran out of file descriptors: connections need a moment to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker is made of; the sockets are its own.
#[derive(Debug)]
pub struct WorkerSeed {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub metrics: Arc<WorkerMetrics>,
    pub log: WorkerLog,
    pub listeners: Vec<Bound>,
    /// Client connections that it may have open: each needs a second socket upstream.
    pub max_connections: usize,
}

/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn(seed: WorkerSeed) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", seed.index)).spawn(move || {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(seed)),
            Err(error) => tracing::error!(%error, worker = seed.index, "cannot start the worker's runtime"),
        }
    })
}

async fn run(seed: WorkerSeed) {
    let WorkerSeed { index, shared, metrics, log, listeners, max_connections } = seed;
    let worker = Rc::new(Worker::new(index, shared, metrics, log));
    for (position, bound) in listeners.into_iter().enumerate() {
        let Bound { socket, speaks } = bound;
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                spawn_local(accept(
                    worker.clone(),
                    listener,
                    Rc::new(Handler::from(speaks)),
                    position,
                    max_connections,
                ));
            }
            Err(error) => tracing::error!(%error, worker = index, "cannot listen"),
        }
    }
    let mut abort = pin!(worker.shared.abort.cancelled());
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0u32;
    let mut told = false;
    loop {
        tokio::select! {
            () = &mut abort => break,
            _ = interval.tick() => {}
        }
        worker.deadlines.tick();
        worker.log.flush();
        // Lets go of a table that no request has asked for.
        drop(worker.table());
        ticks += 1;
        if ticks.is_multiple_of(SWEEP_TICKS) {
            worker.upstreams.sweep();
            worker.rotations.sweep();
        }
        if worker.is_draining() {
            if !told {
                told = true;
                worker.deadlines.wake_all();
            }
            if worker.open_connections() == 0 {
                break;
            }
        }
    }
    worker.log.flush();
}

async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    handler: Rc<Handler>,
    position: usize,
    most: usize,
) {
    let mut stop = pin!(worker.shared.stop_accepting.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&worker, &handler, position, most, stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, listener = %handler.name(), "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What the kernel has already accepted would be reset: it is served. Nothing new is waited for.
    while let Some(Ok((stream, peer))) = futures::FutureExt::now_or_never(listener.accept()) {
        admit(&worker, &handler, position, most, stream, peer);
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn admit(
    worker: &Rc<Worker>,
    handler: &Rc<Handler>,
    position: usize,
    most: usize,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let cells = &worker.metrics.listeners[position].1;
    if worker.open_connections() >= most {
        cells.refused.increment();
        return;
    }
    cells.accepted.increment();
    cells.open.add(1);
    worker.count_connections(1);
    let open = Open { worker: worker.clone(), position };
    let handler = handler.clone();
    spawn_local(async move {
        let worker = open.worker.clone();
        let deadline = Deadline::claim(worker.deadlines.clone()).await;
        handler.serve(stream, peer, worker, deadline, open.position).await;
        drop(open);
    });
}

/// An open connection, counted until it is dropped.
struct Open {
    worker: Rc<Worker>,
    position: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.count_connections(-1);
        self.worker.metrics.listeners[self.position].1.open.add(-1);
    }
}
