//! Once per request: what is counted, and who is told.

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::facts::{Facts, LogFacts, Outcome};
use super::spans;
use super::wire::Sent;
use crate::access_log::{Ending, Entry};
use crate::metrics::ServiceMetrics;
use crate::reason::Reason;
use crate::statistics::Seen;

/// A request that went to no endpoint.
pub fn refusal<W>(
    client: &Client<W>,
    facts: &Facts,
    reason: Reason,
    app: Option<&Arc<ServiceMetrics>>,
    sent: Sent,
) {
    let worker = &client.worker;
    let metrics = app.unwrap_or(&worker.shared.unrouted);
    let ended = Instant::now();
    let cells = metrics.cells(worker.index);
    cells.count_failure(facts.method, reason);
    cells.request_seconds.record(ended - facts.started);
    cells.received_bytes.add(facts.head_bytes as u64);
    cells.sent_bytes.add(sent.bytes);
    if !facts.is_told() {
        return;
    }
    let ending = Ending {
        at: ended,
        client: client.origin.peer.ip(),
        listener: &client.origin.listener.name,
        status: facts.status_of(reason),
        reason: Some(reason),
        app: app.map(|metrics| metrics.app().as_str()),
        endpoint: None,
        received_bytes: facts.head_bytes as u64,
        sent_bytes: sent.bytes,
        took: ended - facts.started,
        awaited: None,
        retries: 0,
    };
    tell(client, facts, app, sent.body, false, ending);
}

/// A request that went to an endpoint, whatever came back.
pub fn exchange<W>(client: &Client<W>, facts: &Facts, outcome: &Outcome) {
    let worker = &client.worker;
    let ended = Instant::now();
    let metrics = &outcome.endpoint.metrics;
    let cells = metrics.cells(worker.index);
    match outcome.failure {
        None => cells.count_answer(facts.method, outcome.status),
        Some(reason) => cells.count_failure(facts.method, reason),
    }
    if !outcome.is_tunnel {
        cells.request_seconds.record(ended - facts.started);
    }
    if outcome.retries == 0 {
        cells.added_seconds.record(outcome.attempted - facts.started);
    }
    if let Some(responded) = outcome.responded {
        cells.upstream_seconds.record(responded - outcome.attempted);
    }
    cells.received_bytes.add(outcome.received_bytes);
    cells.sent_bytes.add(outcome.sent_bytes);
    if !facts.is_told() {
        return;
    }
    if let Some(trace) = &facts.trace {
        trace.note(&outcome.endpoint, outcome.attempted, outcome.status, outcome.failure);
    }
    let ending = Ending {
        at: ended,
        client: client.origin.peer.ip(),
        listener: &client.origin.listener.name,
        // What the client saw, if it saw a status at all.
        status: if outcome.status > 0 { outcome.status } else { outcome.failure.map_or(0, Reason::status) },
        reason: outcome.failure,
        app: Some(metrics.app().as_str()),
        endpoint: Some(&outcome.endpoint),
        received_bytes: outcome.received_bytes,
        sent_bytes: outcome.sent_bytes,
        took: ended - facts.started,
        awaited: outcome.responded.map(|responded| responded - outcome.attempted),
        retries: outcome.retries,
    };
    tell(client, facts, Some(metrics), outcome.body_bytes, outcome.is_tunnel, ending);
}

fn tell<W>(
    client: &Client<W>,
    facts: &Facts,
    service: Option<&Arc<ServiceMetrics>>,
    body_bytes: u64,
    is_tunnel: bool,
    ending: Ending<'_>,
) {
    let worker = &client.worker;
    let has_failed = Ending::is_failure(ending.status, ending.reason);
    let log = facts.log.as_deref();
    if facts.is_counted
        && let Some(service) = service
    {
        let seen = Seen {
            status: ending.status,
            has_failed,
            received_bytes: ending.received_bytes,
            sent_bytes: ending.sent_bytes,
            // How long a tunnel lasted says nothing about requests.
            took: (!is_tunnel).then_some(ending.took),
            client: log.and_then(|log| log.client).unwrap_or(ending.client),
            target: log.map_or(&[][..], LogFacts::target),
        };
        worker.statistics.count(service, &seen);
    }
    spans::finish(client, facts, &ending);
    if facts.logging.includes(has_failed) {
        worker.log.write(|| Entry { facts, body_bytes, ending });
    }
}
