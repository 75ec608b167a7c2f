//! The end, step by step, under one deadline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::app::Gateway;

/// After the drain's deadline, for tasks to notice and threads to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl Gateway {
    /// Drains and stops. Requests under way have the configured time; what is left then is cut. `hurry`
    /// cuts it short. Returns whether everything ended by itself.
    pub async fn shut_down(self, hurry: impl Future<Output = ()>) -> bool {
        let Self { serving, shared, workers, log, control, tasks, drain_timeout, .. } = self;

        // 1. Not ready: load balancers and address holders look elsewhere.
        serving.drain(Instant::now());

        // 2. Nothing new; every response from now on says that its connection closes, idle ones close.
        shared.draining.store(true, Ordering::Relaxed);
        shared.stop_accepting.cancel();

        // 3. What is under way finishes.
        let mut joined = tokio::task::spawn_blocking(move || workers.into_iter().for_each(join));
        let drained = tokio::select! {
            _ = &mut joined => true,
            () = tokio::time::sleep(drain_timeout) => false,
            () = hurry => false,
        };

        // 4. What did not is cut.
        if !drained {
            tracing::warn!("cutting connections that did not end in time");
            shared.abort.cancel();
            let _ = tokio::time::timeout(LAST_GRACE, joined).await;
        }

        // 5. The control plane, last: until here it answered probes and scrapes.
        control.cancel();
        for task in tasks {
            let _ = tokio::time::timeout(LAST_GRACE, task).await;
        }
        if let Some(log) = log {
            let _ = tokio::time::timeout(LAST_GRACE, tokio::task::spawn_blocking(move || log.finish())).await;
        }
        drained
    }
}

fn join(worker: std::thread::JoinHandle<()>) {
    if worker.join().is_err() {
        tracing::error!("a worker panicked");
    }
}
