//! Who is told of requests that are over: the access log, the statistics, the traces. Each has a part on
//! every worker and one behind, and a channel between them that never makes a worker wait.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::Sample;

use crate::access_log::{LogWriter, WorkerLog};
use crate::config::GatewayConfig;
use crate::metrics::WorkerMetrics;
use crate::statistics::{self, Delta, Store, WorkerStatistics};
use crate::trace::{self, Batch, ExportStatus, Exporter, WorkerTracing};
use crate::worker::Observers;
use crate::worker::request_ids::random;

/// What workers are given their parts from.
pub struct Observing<'a> {
    log: Option<&'a LogWriter>,
    statistics: Sender<Delta>,
    /// Workers hash alike, and nobody outside knows how.
    seed: u64,
    tracing: Option<(Sample, Sender<Batch>)>,
}

/// What scrapes and the admin API read.
pub struct Watched {
    pub statistics: Arc<Store>,
    pub tracing: Option<Arc<ExportStatus>>,
}

impl<'a> Observing<'a> {
    /// Starts the parts behind, which end with `cancel`.
    pub fn start(
        config: &GatewayConfig,
        log: Option<&'a LogWriter>,
        cancel: &CancellationToken,
        tasks: &mut Vec<JoinHandle<()>>,
    ) -> (Self, Watched) {
        let (statistics, deltas) = statistics::channel();
        let store = Store::new(std::time::Instant::now(), config.statistics.memory);
        tasks.push(tokio::spawn(store.clone().run(deltas, cancel.clone())));
        let traced = config.tracing.as_ref().map(|tracing| {
            let (sender, batches) = trace::channel();
            let status = Arc::new(ExportStatus::default());
            let target = tracing.target.clone();
            let exporter = Exporter::new(target, &tracing.service_name, &config.id, status.clone());
            tasks.push(tokio::spawn(exporter.run(batches, cancel.clone())));
            ((tracing.sample, sender), status)
        });
        let (tracing, status) = traced.unzip();
        let observing = Self { log, statistics, seed: random(), tracing };
        (observing, Watched { statistics: store, tracing: status })
    }

    pub fn of_worker(&self, metrics: &Arc<WorkerMetrics>) -> Observers {
        let tracing = self.tracing.as_ref();
        Observers {
            log: self.log.map_or_else(WorkerLog::off, |log| log.worker(metrics.clone())),
            statistics: WorkerStatistics::new(self.statistics.clone(), self.seed, metrics.clone()),
            tracing: tracing
                .map(|(sample, to)| Box::new(WorkerTracing::new(*sample, to.clone(), metrics.clone()))),
        }
    }
}
