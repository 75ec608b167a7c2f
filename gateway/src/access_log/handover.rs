//! From a worker to the thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

/// A worker hands over at this size, or at its next tick. As much as one write is worth; a larger buffer
/// would leave the core's cache before it is full.
pub const BATCH_BYTES: usize = 64 << 10;
/// Lines are whole: the one that fills a batch may go beyond it.
const LAST_LINE_BYTES: usize = 2 << 10;
/// Buffers that wait for their worker to need them: what it fills while the writer is away for its pause.
const SPARES: usize = 8;
/// What is handed over with less in it is copied, so that memory that waits for a target is full of lines.
const WORTH_A_BUFFER: usize = BATCH_BYTES / 2;

/// Whole lines.
#[derive(Debug)]
pub struct Batch {
    pub lines: Vec<u8>,
    /// Where the buffer goes when it is empty again.
    home: SyncSender<Vec<u8>>,
}

impl Batch {
    /// Gives the buffer back to the worker that made it, if that has use for it.
    fn recycle(self) {
        let Self { mut lines, home, .. } = self;
        if lines.capacity() >= BATCH_BYTES {
            lines.clear();
            // Full: this one is freed instead.
            let _ = home.try_send(lines);
        }
    }
}

/// How much waits for the target, over all workers.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    most: usize,
}

impl Backlog {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most })
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What was taken from the queue is written or lost.
    pub(super) fn finish(&self, batch: Batch) {
        self.bytes.fetch_sub(batch.lines.len(), Ordering::Relaxed);
        batch.recycle();
    }
}

/// A worker's end. Nothing here waits: the channels are free of locks on their fast paths, and the bound
/// is a number.
#[derive(Debug)]
pub struct Handover {
    batches: Sender<Batch>,
    spares: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
    backlog: Arc<Backlog>,
}

impl Handover {
    pub fn new(batches: Sender<Batch>, backlog: Arc<Backlog>) -> Self {
        let (home, spares) = sync_channel(SPARES);
        Self { batches, spares, home, backlog }
    }

    /// Takes the lines out of `lines`. False: too much waits already, or nobody writes any more; they are
    /// dropped.
    pub fn send(&self, lines: &mut Vec<u8>) -> bool {
        let length = lines.len();
        if self.backlog.bytes.load(Ordering::Relaxed) + length > self.backlog.most {
            lines.clear();
            return false;
        }
        let full = if length >= WORTH_A_BUFFER {
            std::mem::replace(lines, self.buffer())
        } else {
            let copy = lines.as_slice().to_vec();
            lines.clear();
            copy
        };
        self.backlog.bytes.fetch_add(length, Ordering::Relaxed);
        let sent = self.batches.send(Batch { lines: full, home: self.home.clone() });
        if sent.is_err() {
            self.backlog.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        sent.is_ok()
    }

    /// An empty one: one that the writer is done with, while it lies in the cache still.
    pub fn buffer(&self) -> Vec<u8> {
        self.spares.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH_BYTES + LAST_LINE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_waits_is_bounded_and_buffers_come_home() {
        let (sender, batches) = channel();
        let backlog = Backlog::new(3 * BATCH_BYTES);
        let handover = Handover::new(sender, backlog.clone());
        let fill = |lines: &mut Vec<u8>| lines.resize(BATCH_BYTES, b'x');
        let mut lines = handover.buffer();
        for _ in 0..3 {
            fill(&mut lines);
            assert!(handover.send(&mut lines) && lines.is_empty());
        }
        fill(&mut lines);
        assert!(!handover.send(&mut lines) && lines.is_empty(), "dropped");
        let batch = batches.recv().unwrap();
        let buffer = batch.lines.as_ptr();
        backlog.finish(batch);
        lines = handover.buffer();
        assert_eq!(lines.as_ptr(), buffer, "used again");
        fill(&mut lines);
        assert!(handover.send(&mut lines), "there is room again");
    }

    #[test]
    fn a_few_lines_do_not_take_a_buffer_along() {
        let (sender, batches) = channel();
        let handover = Handover::new(sender, Backlog::new(BATCH_BYTES));
        let mut lines = handover.buffer();
        let buffer = lines.as_ptr();
        lines.extend_from_slice(b"one\n");
        assert!(handover.send(&mut lines));
        assert_eq!(lines.as_ptr(), buffer);
        assert!(batches.recv().unwrap().lines.capacity() < 64);
        drop(batches);
        lines.extend_from_slice(b"two\n");
        assert!(!handover.send(&mut lines), "nobody is there");
    }
}
