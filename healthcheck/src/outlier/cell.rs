//! One endpoint's ejection, shared between the requests that read it and those who write it: the control plane, and a probe that proves that the endpoint is back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use topology::Outliers;

use super::Cause;
use super::ejections::Ejections;

#[derive(Debug, Default)]
pub struct EjectionCell {
    /// A copy for the request path; relaxed, as in [`crate::HealthCell`].
    is_out: AtomicBool,
    /// From the first ejection on: most endpoints never have one.
    record: OnceLock<Box<Mutex<Record>>>,
}

#[derive(Debug, Default)]
struct Record {
    ejections: Ejections,
    report: Option<EjectionReport>,
}

/// An ejection, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EjectionReport {
    pub cause: Cause,
    /// The cause in figures.
    pub text: Arc<str>,
    pub since: SystemTime,
    pub until: SystemTime,
}

impl EjectionCell {
    /// Whether requests are kept away: one relaxed load.
    #[inline]
    pub fn is_out(&self) -> bool {
        self.is_out.load(Relaxed)
    }

    /// Takes the endpoint out; returns for how long. `None`: it was out already.
    pub fn eject(&self, now: Instant, cause: Cause, text: &str, settings: &Outliers) -> Option<Duration> {
        let mut record = lock(self.record.get_or_init(Box::default));
        if record.ejections.is_out() {
            return None;
        }
        let lasts = record.ejections.eject(now, settings);
        let since = SystemTime::now();
        record.report = Some(EjectionReport { cause, text: text.into(), since, until: since + lasts });
        self.is_out.store(true, Relaxed);
        Some(lasts)
    }

    /// Brings the endpoint back if it has been out for long enough. Whether it did.
    pub fn end_if_due(&self, now: Instant) -> bool {
        let Some(record) = self.record.get() else { return false };
        let mut record = lock(record);
        let is_due = record.ejections.is_due(now);
        if is_due {
            self.bring_back(&mut record, now);
        }
        is_due
    }

    /// Brings the endpoint back now: something has proved that it is another one. Whether it was out.
    pub fn end(&self, now: Instant) -> bool {
        let Some(record) = self.record.get() else { return false };
        let mut record = lock(record);
        let was_out = record.ejections.is_out();
        self.bring_back(&mut record, now);
        was_out
    }

    /// Of the present ejection.
    pub fn report(&self) -> Option<EjectionReport> {
        lock(self.record.get()?).report.clone()
    }

    fn bring_back(&self, record: &mut Record, now: Instant) {
        record.ejections.end(now);
        record.report = None;
        self.is_out.store(false, Relaxed);
    }
}

/// No code that holds the lock can leave the record half written, so a poisoned lock is as good.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejection_says_why_and_ends_by_itself_or_by_proof() {
        let (cell, settings, now) = (EjectionCell::default(), Outliers::default(), Instant::now());
        let lasts = cell.eject(now, Cause::Failures, "5 in a row", &settings).unwrap();
        assert_eq!(cell.eject(now, Cause::Latency, "again", &settings), None);
        let report = cell.report().unwrap();
        assert_eq!((report.cause, &*report.text), (Cause::Failures, "5 in a row"));
        assert!(cell.is_out() && !cell.end_if_due(now));
        assert!(cell.end_if_due(now + lasts) && !cell.is_out() && cell.report().is_none());
        cell.eject(now + lasts, Cause::Failures, "5 in a row", &settings);
        assert!(cell.end(now + lasts) && !cell.is_out() && !cell.end(now + lasts));
    }
}
