//! Once per request: what is counted and what is logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Connection;
use super::exchange::Outcome;
use super::prepare::Facts;
use crate::access_log::Entry;
use crate::message::fields::list_items;
use crate::message::{FieldKind, RequestHead};
use crate::metrics::ServiceMetrics;
use crate::reason::Reason;

/// What the access log shows of a request's head, copied because the head is gone when the line is written.
#[derive(Debug)]
pub struct LogFacts {
    text: Vec<u8>,
    method: usize,
    host: usize,
    target: usize,
    agent: usize,
    /// The last address in X-Forwarded-For that a trusted peer vouches for.
    pub client: Option<IpAddr>,
}

impl LogFacts {
    pub fn of(request: &RequestHead, head: &[u8], is_trusted: bool) -> Self {
        let mut text = Vec::with_capacity(LOG_BYTES);
        let mut push = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            text.len()
        };
        let value = |kind| request.fields.first(kind).map_or(&[][..], |field| field.value.within(head));
        let method = push(request.method_name.within(head));
        let host = push(request.authority.within(head));
        let target = push(request.target.within(head));
        let agent = push(value(FieldKind::UserAgent));
        push(value(FieldKind::Referer));
        let client = is_trusted.then(|| last_address(request, head)).flatten();
        Self { text, method, host, target, agent, client }
    }

    pub fn method(&self) -> &[u8] {
        &self.text[..self.method]
    }

    pub fn host(&self) -> &[u8] {
        &self.text[self.method..self.host]
    }

    pub fn target(&self) -> &[u8] {
        &self.text[self.host..self.target]
    }

    pub fn agent(&self) -> &[u8] {
        &self.text[self.target..self.agent]
    }

    pub fn referer(&self) -> &[u8] {
        &self.text[self.agent..]
    }
}

/// Method, host, a usual path and a browser's user agent.
const LOG_BYTES: usize = 256;

fn last_address(request: &RequestHead, head: &[u8]) -> Option<IpAddr> {
    let last = request.fields.all(FieldKind::XForwardedFor).last()?;
    std::str::from_utf8(list_items(last.value.within(head)).last()?).ok()?.parse().ok()
}

/// A request that went to no endpoint.
pub fn refusal(
    connection: &Connection,
    facts: &Facts,
    reason: Reason,
    app: Option<&Arc<ServiceMetrics>>,
    sent_bytes: u64,
) {
    let worker = &connection.worker;
    let metrics = app.unwrap_or(&worker.shared.unrouted);
    let ended = Instant::now();
    let cells = metrics.cells(worker.index);
    cells.count_failure(facts.method, reason);
    cells.request_seconds.record(ended - facts.started);
    cells.received_bytes.add(facts.head_bytes as u64);
    cells.sent_bytes.add(sent_bytes);
    worker.log.write(|| Entry {
        facts,
        peer: connection.peer.ip(),
        listener: &connection.listener.name,
        status: reason.status(),
        reason: Some(reason),
        received_bytes: facts.head_bytes as u64,
        sent_bytes,
        seconds: (ended - facts.started).as_secs_f64(),
        upstream_seconds: None,
        app: app.map(|metrics| metrics.app().as_str()),
        endpoint: None,
        retries: 0,
    });
}

/// A request that went to an endpoint, whatever came back.
pub fn exchange(connection: &Connection, facts: &Facts, outcome: &Outcome) {
    let worker = &connection.worker;
    let ended = Instant::now();
    let cells = outcome.endpoint.metrics.cells(worker.index);
    match outcome.failure {
        None => cells.count_answer(facts.method, outcome.status),
        Some(reason) => cells.count_failure(facts.method, reason),
    }
    cells.request_seconds.record(ended - facts.started);
    cells.added_seconds.record(outcome.attempted - facts.started);
    if let Some(responded) = outcome.responded {
        cells.upstream_seconds.record(responded - outcome.attempted);
    }
    cells.received_bytes.add(outcome.received_bytes);
    cells.sent_bytes.add(outcome.sent_bytes);
    worker.log.write(|| Entry {
        facts,
        peer: connection.peer.ip(),
        listener: &connection.listener.name,
        // What the client saw, if it saw a status at all.
        status: if outcome.status > 0 { outcome.status } else { outcome.failure.map_or(0, Reason::status) },
        reason: outcome.failure,
        received_bytes: outcome.received_bytes,
        sent_bytes: outcome.sent_bytes,
        seconds: (ended - facts.started).as_secs_f64(),
        upstream_seconds: outcome.responded.map(|responded| (responded - outcome.attempted).as_secs_f64()),
        app: Some(outcome.endpoint.metrics.app().as_str()),
        endpoint: Some(&outcome.endpoint),
        retries: outcome.retries,
    });
}
