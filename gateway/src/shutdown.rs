//! The end, step by step, under one deadline.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::access_log::LogWriter;
use crate::app::Gateway;
use crate::dns::DnsService;
use crate::handover::Giver;
use crate::vips::Ending;
use crate::worker::Shared;

/// After the drain's deadline, for tasks to notice and threads to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl Gateway {
    /// Drains and stops. Requests under way have the configured time; what is left then is cut. `hurry`
    /// cuts it short. Returns whether everything ended by itself.
    pub async fn shut_down(self, hurry: impl Future<Output = ()>) -> bool {
        let Self { serving, shared, workers, log, control, tasks, config, mut listeners, vips, dns, .. } =
            self;
        let mut hurry = pin!(hurry);

        // 1. Not ready: load balancers and address holders look elsewhere, and are given the time to.
        self.manager.stopping();
        self.observing.cancel();
        self.handover.into_iter().for_each(Giver::stop);
        serving.drain(Instant::now());
        // Whoever takes an address over takes its clients; until then they come here and are served.
        if let Some(vips) = vips {
            vips.stop(Ending::Exit).await;
        }
        let hurried = tokio::select! {
            () = tokio::time::sleep(config.gateway.drain_delay) => false,
            () = &mut hurry => true,
        };

        // 2. Nothing new; every response from now on says that its connection closes, idle ones close.
        shared.draining.store(true, Ordering::Relaxed);
        listeners.let_go();
        shared.stop_accepting.cancel();

        // 3. What is under way finishes.
        let mut joined = join_all(workers);
        let drained = tokio::select! {
            _ = &mut joined => true,
            () = tokio::time::sleep(config.gateway.drain_timeout), if !hurried => false,
            () = hurry, if !hurried => false,
            () = std::future::ready(()), if hurried => false,
        };

        Remains { shared, control, tasks, log, dns }.end(drained, joined).await;
        drained
    }
}

/// What is left when connections have had their time.
pub(crate) struct Remains {
    pub shared: Arc<Shared>,
    pub control: CancellationToken,
    pub tasks: Vec<tokio::task::JoinHandle<()>>,
    pub log: Option<LogWriter>,
    /// `None`: nobody is told where names lead, or somebody else tells it.
    pub dns: Option<DnsService>,
}

impl Remains {
    pub(crate) async fn end(self, drained: bool, joined: oneshot::Receiver<()>) {
        let Self { shared, control, tasks, log, dns } = self;
        // 4. What did not finish is cut.
        if !drained {
            tracing::warn!("cutting connections that did not end in time");
            shared.abort.cancel();
            let _ = tokio::time::timeout(LAST_GRACE, joined).await;
        }

        // 5. The control plane, last: until here it answered probes and scrapes.
        if let Some(dns) = dns {
            dns.stop().await;
        }
        control.cancel();
        for task in tasks {
            let _ = tokio::time::timeout(LAST_GRACE, task).await;
        }
        if let Some(log) = log {
            let _ = tokio::time::timeout(LAST_GRACE, on_thread(move || log.finish())).await;
        }
    }
}

/// Ends when the last worker has.
pub(crate) fn join_all(workers: Vec<JoinHandle<()>>) -> oneshot::Receiver<()> {
    on_thread(move || workers.into_iter().for_each(join))
}

/// Runs what may block for ever, such as a log on a pipe that nobody reads, where the end of the process
/// does not wait for it.
fn on_thread(work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, finished) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("shutdown".into()).spawn(move || {
        work();
        // Nobody waits any more: that is what the deadline was for.
        let _ = done.send(());
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot wait for the end in order");
    }
    finished
}

fn join(worker: JoinHandle<()>) {
    if worker.join().is_err() {
        tracing::error!("a worker panicked");
    }
}
