//! A worker's part: it decides whose trace a request belongs to, and gives away what is over.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc::Sender;
use topology::Sample;

use super::span::{Finished, Trace};
use crate::access_log::Clock;
use crate::message::RequestHead;
use crate::message::trace_context::{Parent, SpanId, has_valid_state};
use crate::metrics::WorkerMetrics;
use crate::worker::request_ids::{SPREAD, random};

/// Requests that are given away at once, or at the next tick. Each has about a KiB.
const BATCH: usize = 128;

/// Requests that are over.
pub type Batch = Vec<Finished>;

#[derive(Debug)]
pub struct WorkerTracing {
    sample: Sample,
    to: Sender<Batch>,
    pending: RefCell<Batch>,
    /// What span ids are made of.
    state: Cell<u64>,
    clock: Cell<Clock>,
    metrics: Arc<WorkerMetrics>,
}

impl WorkerTracing {
    pub fn new(sample: Sample, to: Sender<Batch>, metrics: Arc<WorkerMetrics>) -> Self {
        let (state, clock) = (Cell::new(random()), Cell::new(Clock::now()));
        Self { sample, to, pending: RefCell::default(), state, clock, metrics }
    }

    /// Continues the trace that the request belongs to, or begins one. Whether it is recorded is the
    /// caller's word where we trust him, and ours otherwise: any client could have all of its requests
    /// recorded.
    pub fn begin(&self, request: &RequestHead, head: &[u8], is_trusted: bool) -> Box<Trace> {
        let parent = Parent::of(request, head);
        let is_sampled = match parent {
            Some(parent) if is_trusted => parent.is_sampled,
            _ => self.sample.takes(self.number()),
        };
        let id = parent.map_or_else(|| self.trace_id(), |parent| parent.trace);
        Box::new(Trace {
            id,
            parent: parent.map(|parent| parent.span),
            span: self.span_id(),
            is_sampled,
            // A state belongs to its parent (section 3.3 of the Recommendation).
            keeps_state: parent.is_some() && has_valid_state(request, head),
            attempt: Cell::new(self.span_id()),
            attempts: RefCell::new(SmallVec::new()),
        })
    }

    /// A new span, for another attempt.
    pub fn span_id(&self) -> SpanId {
        loop {
            // No id is all zeros (section 3.2.2.4).
            match self.number() {
                0 => {}
                number => return number.to_be_bytes(),
            }
        }
    }

    /// Since 1970.
    pub fn time_of(&self, instant: std::time::Instant) -> std::time::Duration {
        self.clock.get().time_of(instant)
    }

    pub fn finish(&self, finished: Finished) {
        let mut pending = self.pending.borrow_mut();
        pending.push(finished);
        if pending.len() >= BATCH {
            self.give(&mut pending);
        }
    }

    /// Once per tick.
    pub fn tick(&self) {
        self.clock.set(Clock::now());
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() {
            self.give(&mut pending);
        }
    }

    /// If the control plane is behind, they are dropped and counted.
    fn give(&self, pending: &mut Batch) {
        if let Err(refused) = self.to.try_send(std::mem::take(pending)) {
            let spans = refused.into_inner().iter().map(|finished| 1 + finished.attempts.len() as u64).sum();
            self.metrics.spans_dropped.add(spans);
        }
    }

    fn trace_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.span_id());
        id[8..].copy_from_slice(&self.span_id());
        id
    }

    /// The next of a sequence that begins at a random place (SplitMix64, Steele et al. 2014): ids need be
    /// unlikely to meet, not hard to guess.
    fn number(&self) -> u64 {
        let state = self.state.get().wrapping_add(SPREAD);
        self.state.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracing(sample: Sample) -> WorkerTracing {
        WorkerTracing::new(sample, tokio::sync::mpsc::channel(1).0, Arc::default())
    }

    fn begin(tracing: &WorkerTracing, fields: &str, is_trusted: bool) -> Box<Trace> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        tracing.begin(&RequestHead::parse(head.as_bytes()).unwrap(), head.as_bytes(), is_trusted)
    }

    #[test]
    fn a_trace_is_continued_whoever_began_it_and_recorded_on_the_word_of_the_trusted() {
        let parent =
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n";
        let (all, none) = (tracing(Sample::ALL), tracing(Sample::NONE));
        let trusted = begin(&none, parent, true);
        assert_eq!((trusted.id[0], trusted.parent.unwrap()[1]), (0x4b, 0xf0));
        assert!(trusted.is_sampled && trusted.keeps_state);
        let stranger = begin(&none, parent, false);
        assert!(stranger.id == trusted.id && stranger.parent == trusted.parent && !stranger.is_sampled);
        let unsampled = parent.replace("-01\r", "-00\r");
        assert!(!begin(&all, &unsampled, true).is_sampled && begin(&all, &unsampled, false).is_sampled);
        let own = begin(&all, "tracestate: a=1\r\n", true);
        assert!(own.parent.is_none() && own.is_sampled && !own.keeps_state);
        assert_ne!(own.id, begin(&all, "", true).id);
        assert!(own.span != own.attempt.get());
    }

    #[test]
    fn a_sample_is_a_share() {
        let tracing = tracing(Sample::of(0.1).unwrap());
        let taken = (0..10_000).filter(|_| begin(&tracing, "", false).is_sampled).count();
        assert!((800..1_200).contains(&taken), "{taken}");
    }
}
