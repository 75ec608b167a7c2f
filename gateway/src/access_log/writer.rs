//! The thread that writes, and the only one that a slow disk, terminal or network ever holds up.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::format::Format;
use super::handover::{BATCH_BYTES, Backlog, Batch, Handover};
use super::status::Status;
use super::syslog::Envelope;
use super::target::{LogTarget, Sink};
use super::worker::WorkerLog;
use crate::metrics::WorkerMetrics;

/// After a full batch more of them come. A writer that looks again this much later finds several at once
/// and is not woken for each: a worker pays for every thread that it wakes.
const PAUSE: Duration = Duration::from_millis(10);

/// What the log is to be.
#[derive(Debug, Clone)]
pub struct LogPlan {
    pub target: LogTarget,
    pub format: Format,
    /// Bytes that may wait for the target.
    pub backlog: usize,
    /// What syslog is told of each line.
    pub envelope: Option<Envelope>,
}

/// How the log fares, for scrapes.
#[derive(Debug, Clone)]
pub struct LogWatch {
    pub status: Arc<Status>,
    pub backlog: Arc<Backlog>,
}

/// Ends when the last sender is gone and everything is written.
#[derive(Debug)]
pub struct LogWriter {
    format: Format,
    envelope: Option<Envelope>,
    sender: Sender<Batch>,
    backlog: Arc<Backlog>,
    status: Arc<Status>,
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// # Errors
    /// When a file cannot be opened for appending, or no thread can be made.
    pub fn start(plan: LogPlan) -> io::Result<Self> {
        let LogPlan { target, format, backlog, envelope } = plan;
        let sink = Sink::open(&target)?;
        let (sender, batches) = channel();
        let (backlog, status) = (Backlog::new(backlog), Arc::new(Status::default()));
        let (taken, told) = (backlog.clone(), status.clone());
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&batches, sink, &taken, &told))?;
        Ok(Self { format, envelope, sender, backlog, status, thread })
    }

    /// A worker's end.
    pub fn worker(&self, metrics: Arc<WorkerMetrics>) -> WorkerLog {
        let handover = Handover::new(self.sender.clone(), self.backlog.clone());
        WorkerLog::new(self.format, self.envelope.clone(), handover, metrics)
    }

    /// What there is to see of it from outside.
    pub fn watch(&self) -> LogWatch {
        LogWatch { status: self.status.clone(), backlog: self.backlog.clone() }
    }

    /// Opens the file anew before the next line, as after a rotation.
    pub fn reopen(&self) {
        self.status.ask_to_reopen();
    }

    /// Writes what has been handed over, as far as the target takes it at once; the workers' senders must
    /// be gone.
    pub fn finish(self) {
        drop(self.sender);
        self.status.ask_to_end();
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

fn write_all(batches: &Receiver<Batch>, mut sink: Sink, backlog: &Backlog, status: &Status) {
    while let Ok(first) = batches.recv() {
        let mut is_busy = false;
        for batch in std::iter::once(first).chain(batches.try_iter()) {
            if status.takes_reopening() {
                sink.reopen(status);
            }
            is_busy |= batch.lines.len() >= BATCH_BYTES;
            sink.write(&batch.lines, status);
            backlog.finish(batch);
        }
        if is_busy {
            status.wait(PAUSE);
        }
    }
}
