//! The thread that writes, and the only one that a slow disk or terminal ever holds up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Batches that wait for the target: 16 MiB at the most.
const WAITING_BATCHES: usize = 256;

#[derive(Debug)]
pub struct Batch {
    pub lines: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(PathBuf),
}

/// Ends when the last sender is gone and everything is written.
#[derive(Debug)]
pub struct LogWriter {
    sender: SyncSender<Batch>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be made.
    pub fn start(target: LogTarget) -> io::Result<Self> {
        let mut sink = Sink::open(&target)?;
        let (sender, receiver): (_, Receiver<Batch>) = sync_channel(WAITING_BATCHES);
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = reopen.clone();
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            let mut is_failing = false;
            for batch in receiver {
                if asked.swap(false, Ordering::Relaxed) {
                    match Sink::open(&target) {
                        Ok(fresh) => sink = fresh,
                        Err(error) => tracing::error!(%error, ?target, "cannot reopen the access log"),
                    }
                }
                let written = sink.write(&batch.lines);
                // Once per outage: a full disk must not fill the other log.
                if let Err(error) = &written
                    && !is_failing
                {
                    tracing::error!(%error, ?target, "cannot write the access log");
                }
                is_failing = written.is_err();
            }
        })?;
        Ok(Self { sender, reopen, thread })
    }

    pub fn sender(&self) -> SyncSender<Batch> {
        self.sender.clone()
    }

    /// Opens the file anew before the next line, as after a rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes what has been handed over; the workers' senders must be gone.
    pub fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

enum Sink {
    Stdout,
    File(File),
}

impl Sink {
    fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::Stdout => Ok(Self::Stdout),
            LogTarget::File(path) => OpenOptions::new().create(true).append(true).open(path).map(Self::File),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(lines).and_then(|()| io::stdout().flush()),
            Self::File(file) => file.write_all(lines),
        }
    }
}
