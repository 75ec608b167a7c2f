//! A worker's end of the log.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use topology::LogSettings;

use super::entry::{Ending, Entry, Logging, StreamEntry};
use super::format::Format;
use super::handover::{BATCH_BYTES, Handover};
use super::stamp::{Clock, Stamp};
use super::syslog::Envelope;
use crate::metrics::WorkerMetrics;
use crate::worker::request_ids::SPREAD;

/// Collects lines; `None` inside: the log is off.
#[derive(Debug)]
pub struct WorkerLog(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    format: Format,
    envelope: Option<Envelope>,
    handover: Handover,
    metrics: Arc<WorkerMetrics>,
    pending: RefCell<Pending>,
    clock: Cell<Clock>,
    /// What the last one drew that had to be chosen by its share.
    drawn: Cell<u64>,
}

#[derive(Debug)]
struct Pending {
    lines: Vec<u8>,
    count: u64,
    stamp: Stamp,
}

impl WorkerLog {
    pub fn off() -> Self {
        Self(None)
    }

    pub(super) fn new(
        format: Format,
        envelope: Option<Envelope>,
        handover: Handover,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        let pending = Pending { lines: handover.buffer(), count: 0, stamp: Stamp::default() };
        Self(Some(Box::new(Open {
            format,
            envelope,
            handover,
            metrics,
            pending: RefCell::new(pending),
            clock: Cell::new(Clock::now()),
            drawn: Cell::new(0),
        })))
    }

    /// Whether the next one of an app with these settings leaves a line.
    pub fn choose(&self, settings: Option<&LogSettings>) -> Logging {
        match (&self.0, settings) {
            (None, _) => Logging::Never,
            (Some(_), None) => Logging::Always,
            (Some(open), Some(settings)) => {
                // Multiples of this number spread over all values with no gap or heap anywhere (Knuth, TAOCP
                // 6.4), so that a share is kept even among a few requests.
                let drawn = open.drawn.get().wrapping_add(SPREAD);
                open.drawn.set(drawn);
                match settings {
                    _ if settings.sample.takes(drawn) => Logging::Always,
                    LogSettings { errors: true, .. } => Logging::Failures,
                    LogSettings { errors: false, .. } => Logging::Never,
                }
            }
        }
    }

    pub fn write<'a>(&self, entry: impl FnOnce() -> Entry<'a>) {
        let Some(open) = &self.0 else { return };
        let entry = entry();
        open.line(&entry.ending, |stamp, line| entry.write(open.format, stamp, line));
    }

    pub fn write_stream<'a>(&self, entry: impl FnOnce() -> StreamEntry<'a>) {
        let Some(open) = &self.0 else { return };
        let entry = entry();
        open.line(&entry.ending, |stamp, line| entry.write(open.format, stamp, line));
    }

    /// Hands over what there is, once per tick. If the writer is behind, it is dropped and counted.
    pub fn flush(&self) {
        let Some(open) = &self.0 else { return };
        open.clock.set(Clock::now());
        open.hand_over(&mut open.pending.borrow_mut());
    }
}

impl Open {
    fn line(&self, ending: &Ending<'_>, write: impl FnOnce(&Stamp, &mut Vec<u8>)) {
        let mut pending = self.pending.borrow_mut();
        let Pending { lines, count, stamp } = &mut *pending;
        stamp.set(self.clock.get().time_of(ending.at));
        if let Some(envelope) = &self.envelope {
            envelope.write(stamp, Ending::is_failure(ending.status, ending.reason), lines);
        }
        write(stamp, lines);
        *count += 1;
        if lines.len() >= BATCH_BYTES {
            self.hand_over(&mut pending);
        }
    }

    fn hand_over(&self, pending: &mut Pending) {
        let count = std::mem::take(&mut pending.count);
        if count == 0 {
            return;
        }
        let taken = self.handover.send(&mut pending.lines);
        let counter = if taken { &self.metrics.log_lines } else { &self.metrics.log_lines_dropped };
        counter.add(count);
    }
}

#[cfg(test)]
mod tests {
    use topology::Sample;

    use super::super::handover::Backlog;
    use super::*;

    #[test]
    fn settings_choose_who_leaves_a_line() {
        let handover = Handover::new(std::sync::mpsc::channel().0, Backlog::new(0));
        let log = WorkerLog::new(Format::Json, None, handover, Arc::default());
        let tenth = LogSettings { sample: Sample::of(0.1).unwrap(), errors: true };
        let chosen: Vec<_> = (0..1_000).map(|_| log.choose(Some(&tenth))).collect();
        let always = chosen.iter().filter(|logging| **logging == Logging::Always).count();
        assert!((98..=102).contains(&always), "{always}");
        assert!(!chosen.contains(&Logging::Never));
        // Not one in ten at the end of each hundred, but spread.
        let gaps = chosen.split(|logging| *logging == Logging::Always).map(<[_]>::len);
        assert!(gaps.max() < Some(20));
        assert_eq!(log.choose(None), Logging::Always);
        assert_eq!(log.choose(Some(&LogSettings::OFF)), Logging::Never);
        assert_eq!(WorkerLog::off().choose(None), Logging::Never);
    }
}
