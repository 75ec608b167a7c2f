//! The state of one endpoint, shared between the requests that read it and the task that probes it.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::probe::{Outcome, ProbeResult};
use crate::sharing::desk::Word;
use crate::verdict::{State, Thresholds, Transition, Verdict};

/// The table of endpoints points to these; they outlive its swaps. A cell belongs to one endpoint, by
/// app, version and instance, and at most one prober writes to it at a time.
#[derive(Debug)]
pub struct HealthCell {
    /// A copy of the record's state for the request path. Relaxed suffices: nothing else is published
    /// through it, and a request that reads it a moment late is a request that came a moment earlier.
    state: AtomicU8,
    created: Moment,
    /// From the first prober on: of most endpoints of a large table there is none. Touched by the prober and
    /// by whoever asks why, never by a request.
    record: OnceLock<Box<Mutex<Record>>>,
}

/// What is known of an endpoint's health, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    pub state: State,
    /// When the state became what it is.
    pub since: SystemTime,
    /// When the last probe ended; `None` before the first one.
    pub last_probe: Option<SystemTime>,
    /// From the last probe's start to its result.
    pub last_latency: Option<Duration>,
    /// How the last probe ended.
    pub last_result: Option<ProbeResult>,
    /// Kept after a recovery: it says why the endpoint was down.
    pub last_error: Option<LastError>,
    pub consecutive_passes: u32,
    pub consecutive_failures: u32,
    pub passes_total: u64,
    pub failures_total: u64,
    /// The gateways that probe it for this one and agree with the state; empty: this one probes it.
    pub heard_from: Vec<Arc<str>>,
}

/// The last probe that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    pub at: SystemTime,
    pub result: ProbeResult,
    /// The error and its causes, at most [`crate::ProbeError::MAX_TEXT_BYTES`] long.
    pub text: Arc<str>,
}

/// Milliseconds since the Unix epoch: half of what the standard library's takes, and a hundred thousand records have three each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment(u64);

impl Moment {
    fn now() -> Self {
        // A clock before 1970 is set sometime.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis() as u64)
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Moment,
    /// At most 71 minutes, and no probe has as many to answer.
    latency_micros: u32,
    result: ProbeResult,
}

#[derive(Debug)]
struct Record {
    verdict: Verdict,
    since: Moment,
    last: Option<Last>,
    /// Of most there is none.
    last_error: Option<Box<LastError>>,
    passes: u64,
    failures: u64,
    /// See [`HealthReport::heard_from`].
    heard_from: Option<Arc<[Arc<str>]>>,
    writer: Writer,
}

impl Record {
    fn new(since: Moment) -> Self {
        Self {
            verdict: Verdict::default(),
            since,
            last: None,
            last_error: None,
            passes: 0,
            failures: 0,
            heard_from: None,
            writer: Writer(0),
        }
    }

    fn report(&self) -> HealthReport {
        HealthReport {
            state: self.verdict.state(),
            since: self.since.time(),
            last_probe: self.last.map(|last| last.at.time()),
            last_latency: self.last.map(|last| Duration::from_micros(last.latency_micros.into())),
            last_result: self.last.map(|last| last.result),
            last_error: self.last_error.as_deref().cloned(),
            consecutive_passes: self.verdict.consecutive_passes(),
            consecutive_failures: self.verdict.consecutive_failures(),
            passes_total: self.passes,
            failures_total: self.failures,
            heard_from: self.heard_from.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

/// Which prober's results count. A prober that was stopped or replaced holds an older number, so a
/// result that arrives late changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer(u64);

/// What a new prober makes of the state that it finds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Inherit {
    /// Same endpoint, perhaps other settings: what was established still holds.
    State,
    /// Same endpoint, and somebody says that the state is another one by now: one probe decides.
    Doubt(Thresholds),
    /// Another address: what was established was of another socket.
    Nothing,
}

impl HealthCell {
    pub fn new() -> Self {
        Self { state: AtomicU8::new(State::default() as u8), created: Moment::now(), record: OnceLock::new() }
    }

    /// As the request path sees it.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            state if state == State::Up as u8 => State::Up,
            state if state == State::Down as u8 => State::Down,
            _ => State::Unknown,
        }
    }

    /// Whether requests may go to the endpoint: one relaxed load.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.state.load(Relaxed) != State::Down as u8
    }

    /// Whether any probe has ended.
    pub fn is_probed(&self) -> bool {
        self.record.get().is_some_and(|record| lock(record).last.is_some())
    }

    pub fn report(&self) -> HealthReport {
        let Some(record) = self.record.get() else { return Record::new(self.created).report() };
        lock(record).report()
    }

    /// From here on only the returned writer's results count.
    pub(crate) fn attach(&self, inherit: Inherit) -> Writer {
        let mut record = lock(self.record.get_or_init(|| Box::new(Mutex::new(Record::new(self.created)))));
        record.writer = Writer(record.writer.0 + 1);
        record.heard_from = None;
        match inherit {
            Inherit::State => record.verdict.restart_count(),
            Inherit::Doubt(thresholds) => record.verdict.doubt(thresholds),
            Inherit::Nothing => self.forget(&mut record),
        }
        record.writer
    }

    /// Probing ended. The endpoint is unknown again: without probes a state of down would last for ever.
    pub(crate) fn detach(&self) {
        if self.record.get().is_some() {
            self.attach(Inherit::Nothing);
        }
    }

    /// Takes one result, unless `writer` was replaced. A probe that says nothing of the endpoint
    /// ([`ProbeResult::is_conclusive`]) is remembered as the last error and changes no count.
    pub(crate) fn record(
        &self,
        writer: Writer,
        thresholds: Thresholds,
        outcome: &Outcome,
        latency: Duration,
    ) -> Recorded {
        let Some(record) = self.record.get() else { return Recorded::Stale };
        let mut record = lock(record);
        if record.writer != writer {
            return Recorded::Stale;
        }
        let now = Moment::now();
        let result = ProbeResult::of(outcome);
        let latency_micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        record.last = Some(Last { at: now, latency_micros, result });
        if let Err(error) = outcome {
            let text = error.to_text().into();
            record.last_error = Some(Box::new(LastError { at: now.time(), result: error.result(), text }));
        }
        if !result.is_conclusive() {
            return Recorded::Unchanged;
        }
        match outcome {
            Ok(_) => record.passes += 1,
            Err(_) => record.failures += 1,
        }
        let Some(transition) = record.verdict.observe(outcome.is_ok(), thresholds) else {
            return Recorded::Unchanged;
        };
        record.since = now;
        self.state.store(transition.to as u8, Relaxed);
        Recorded::Changed(transition)
    }

    /// Notes that other gateways say what is known already, unless `writer` was replaced. Returns whether they say it for the
    /// first time.
    pub(crate) fn heed(&self, writer: Writer, word: &Word) -> bool {
        let Some(record) = self.record.get() else { return false };
        let mut record = lock(record);
        if record.writer != writer {
            return false;
        }
        let is_first = record.heard_from.is_none();
        if record.heard_from.as_deref() != Some(&word.by[..]) {
            record.heard_from = Some(word.by.as_slice().into());
        }
        is_first
    }

    fn forget(&self, record: &mut Record) {
        if record.verdict.state() != State::Unknown {
            record.since = Moment::now();
        }
        record.verdict = Verdict::default();
        self.state.store(State::default() as u8, Relaxed);
    }
}

/// No code that holds the lock can leave the record half written, so a poisoned lock is as good.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for HealthCell {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It came from a prober that was stopped meanwhile.
    Stale,
    Unchanged,
    Changed(Transition),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Pass, ProbeError};

    const LATENCY: Duration = Duration::from_millis(3);

    fn failure() -> Outcome {
        Err(ProbeError::ConnectRefused)
    }

    #[test]
    fn report_says_what_was_seen_last_and_why() {
        let cell = HealthCell::new();
        let writer = cell.attach(Inherit::State);
        let thresholds = Thresholds::new(2, 2);
        cell.record(writer, thresholds, &failure(), LATENCY);
        assert!(!cell.is_up());
        cell.record(writer, thresholds, &Ok(Pass::Whole), LATENCY);
        let report = cell.report();
        assert_eq!(
            (report.state, report.consecutive_passes, report.consecutive_failures),
            (State::Down, 1, 0)
        );
        assert_eq!((report.passes_total, report.failures_total), (1, 1));
        assert_eq!((report.last_latency, report.last_result), (Some(LATENCY), Some(ProbeResult::Pass)));
        let error = report.last_error.unwrap();
        assert_eq!((error.result, &*error.text), (ProbeResult::ConnectRefused, "connection refused"));
    }

    #[test]
    fn replaced_prober_changes_nothing() {
        let cell = HealthCell::new();
        let old = cell.attach(Inherit::State);
        let new = cell.attach(Inherit::State);
        assert_eq!(cell.record(old, Thresholds::new(1, 1), &failure(), LATENCY), Recorded::Stale);
        assert!(cell.is_up());
        assert_eq!(cell.report().last_probe, None);
        let changed = Transition { from: State::Unknown, to: State::Down };
        assert_eq!(cell.record(new, Thresholds::new(1, 1), &failure(), LATENCY), Recorded::Changed(changed));
    }

    #[test]
    fn new_settings_keep_the_state_and_a_new_address_does_not() {
        let cell = HealthCell::new();
        let writer = cell.attach(Inherit::State);
        cell.record(writer, Thresholds::new(1, 1), &failure(), LATENCY);
        cell.attach(Inherit::State);
        assert!(!cell.is_up());
        assert_eq!(cell.report().consecutive_failures, 0);
        cell.attach(Inherit::Nothing);
        assert!(cell.is_up());
        assert_eq!(cell.report().state, State::Unknown);
    }

    #[test]
    fn endpoint_that_is_no_longer_probed_counts_as_up() {
        let cell = HealthCell::new();
        let writer = cell.attach(Inherit::State);
        cell.record(writer, Thresholds::new(1, 1), &failure(), LATENCY);
        cell.detach();
        assert!(cell.is_up());
    }

    #[test]
    fn endpoint_that_nobody_probes_has_no_record_and_is_unknown_since_it_came() {
        let cell = HealthCell::new();
        cell.detach();
        assert!(cell.record.get().is_none() && cell.is_up() && !cell.is_probed());
        let report = cell.report();
        assert_eq!(
            (report.state, report.since, report.last_probe),
            (State::Unknown, cell.created.time(), None)
        );
    }

    /// Every endpoint that is probed has one.
    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Mutex<Record>>() <= 96, "{}", size_of::<Mutex<Record>>());
    }

    #[test]
    fn fault_of_our_own_ejects_nobody() {
        let cell = HealthCell::new();
        let writer = cell.attach(Inherit::State);
        let local = Err(ProbeError::Local(std::io::Error::from_raw_os_error(libc::EMFILE)));
        assert_eq!(cell.record(writer, Thresholds::new(1, 1), &local, LATENCY), Recorded::Unchanged);
        let report = cell.report();
        assert_eq!((report.state, report.failures_total), (State::Unknown, 0));
        assert_eq!(report.last_error.unwrap().result, ProbeResult::Local);
    }
}
