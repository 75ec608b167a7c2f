//! Once per request: what is counted and what is logged.

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::facts::{Facts, Outcome};
use super::wire::Sent;
use crate::access_log::Entry;
use crate::metrics::ServiceMetrics;
use crate::reason::Reason;

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
    worker.log.write(|| Entry {
        facts,
        peer: client.origin.peer.ip(),
        listener: &client.origin.listener.name,
        status: facts.status_of(reason),
        reason: Some(reason),
        received_bytes: facts.head_bytes as u64,
        sent_bytes: sent.bytes,
        body_bytes: sent.body,
        seconds: (ended - facts.started).as_secs_f64(),
        upstream_seconds: None,
        app: app.map(|metrics| metrics.app().as_str()),
        endpoint: None,
        retries: 0,
    });
}

/// A request that went to an endpoint, whatever came back.
pub fn exchange<W>(client: &Client<W>, facts: &Facts, outcome: &Outcome) {
    let worker = &client.worker;
    let ended = Instant::now();
    let cells = outcome.endpoint.metrics.cells(worker.index);
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
    worker.log.write(|| Entry {
        facts,
        peer: client.origin.peer.ip(),
        listener: &client.origin.listener.name,
        // What the client saw, if it saw a status at all.
        status: if outcome.status > 0 { outcome.status } else { outcome.failure.map_or(0, Reason::status) },
        reason: outcome.failure,
        received_bytes: outcome.received_bytes,
        sent_bytes: outcome.sent_bytes,
        body_bytes: outcome.body_bytes,
        seconds: (ended - facts.started).as_secs_f64(),
        upstream_seconds: outcome.responded.map(|responded| (responded - outcome.attempted).as_secs_f64()),
        app: Some(outcome.endpoint.metrics.app().as_str()),
        endpoint: Some(&outcome.endpoint),
        retries: outcome.retries,
    });
}
