//! A worker's end of the log.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use super::format::{Entry, Format, Stamp, StreamEntry};
use super::writer::Batch;
use crate::metrics::WorkerMetrics;

/// Handed to the writer when this full, or at the next tick.
const BATCH_BYTES: usize = 64 << 10;

/// Collects lines; `None` inside: the log is off.
#[derive(Debug)]
pub struct WorkerLog(Option<Open>);

#[derive(Debug)]
struct Open {
    format: Format,
    writer: SyncSender<Batch>,
    metrics: Arc<WorkerMetrics>,
    lines: RefCell<Vec<u8>>,
    count: Cell<u64>,
    /// The last second's texts: a busy worker writes thousands of lines in one.
    stamp: RefCell<(u64, Stamp)>,
}

impl WorkerLog {
    pub fn off() -> Self {
        Self(None)
    }

    pub fn new(format: Format, writer: SyncSender<Batch>, metrics: Arc<WorkerMetrics>) -> Self {
        Self(Some(Open {
            format,
            writer,
            metrics,
            lines: RefCell::default(),
            count: Cell::new(0),
            stamp: RefCell::default(),
        }))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn write<'a>(&self, entry: impl FnOnce() -> Entry<'a>) {
        self.line(|format, stamp, line| entry().write(format, stamp, line));
    }

    pub fn write_stream<'a>(&self, entry: impl FnOnce() -> StreamEntry<'a>) {
        self.line(|format, stamp, line| entry().write(format, stamp, line));
    }

    fn line(&self, write: impl FnOnce(Format, &Stamp, &mut Vec<u8>)) {
        let Some(open) = &self.0 else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        {
            let mut stamp = open.stamp.borrow_mut();
            if stamp.0 != now.as_secs() {
                *stamp = (now.as_secs(), stamp_of(now.as_secs()));
            }
            stamp.1.millisecond = now.subsec_millis();
            write(open.format, &stamp.1, &mut open.lines.borrow_mut());
        }
        open.count.set(open.count.get() + 1);
        if open.lines.borrow().len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what there is. If the writer is behind, it is dropped and counted.
    pub fn flush(&self) {
        let Some(open) = &self.0 else { return };
        let count = open.count.replace(0);
        if count == 0 {
            return;
        }
        let lines = std::mem::replace(&mut *open.lines.borrow_mut(), Vec::with_capacity(BATCH_BYTES));
        if open.writer.try_send(Batch { lines }).is_err() {
            open.metrics.log_lines_dropped.add(count);
        }
    }
}

fn stamp_of(second: u64) -> Stamp {
    let second = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let at = second.unwrap_or_default();
    let utc = at.to_zoned(jiff::tz::TimeZone::UTC);
    Stamp {
        iso_second: utc.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        millisecond: 0,
        common: utc.strftime("%d/%b/%Y:%H:%M:%S %z").to_string(),
    }
}
