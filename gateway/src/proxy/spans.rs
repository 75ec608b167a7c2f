//! What a traced request tells of itself.

use super::client::Client;
use super::facts::{Facts, Heads, LogFacts, Outcome};
use crate::access_log::Ending;
use crate::trace::Finished;
use crate::worker::Worker;

/// An attempt is over and another one follows, as a span of its own: its endpoint is called by that.
pub fn again(worker: &Worker, facts: &Facts, last: &Outcome, heads: &mut Heads) {
    let (Some(tracing), Some(trace)) = (&worker.tracing, &facts.trace) else { return };
    trace.note(&last.endpoint, last.attempted, last.status, last.failure);
    trace.attempt.set(tracing.span_id());
    heads.retrace(&trace.traceparent());
}

/// A request is over.
pub fn finish<W>(client: &Client<W>, facts: &Facts, ending: &Ending<'_>) {
    let trace = facts.trace.as_deref().filter(|trace| trace.is_sampled);
    let (Some(tracing), Some(trace)) = (&client.worker.tracing, trace) else { return };
    let log = facts.log.as_deref();
    let text = |part: fn(&LogFacts) -> &[u8]| -> Box<[u8]> { log.map_or(&[][..], part).into() };
    let since = |instant: std::time::Instant| instant.saturating_duration_since(facts.started);
    let attempts = trace.attempts.take().into_iter().map(|attempt| {
        let (after, took) = (since(attempt.began), attempt.ended - attempt.began);
        (attempt, after, took)
    });
    tracing.finish(Finished {
        trace: trace.id,
        parent: trace.parent,
        span: trace.span,
        began: tracing.time_of(facts.started),
        took: ending.took,
        method: text(LogFacts::method),
        target: text(LogFacts::target),
        host: text(LogFacts::host),
        agent: text(LogFacts::agent),
        version: facts.version,
        is_tls: client.origin.listener.is_tls(),
        peer: client.origin.peer,
        client: log.and_then(|log| log.client).unwrap_or(ending.client),
        status: ending.status,
        reason: ending.reason,
        app: ending.app.map(Into::into),
        attempts: attempts.collect(),
    });
}
