//! A question that the gateway itself asks one of its apps: its endpoints, health and balancing are those
//! of any request to it. Its filters are not asked, and nothing is logged; its counters count.

use std::sync::Arc;
use std::task::ready;
use std::time::Instant;

use topology::{AppId, RetryCause};

use super::admission::admit;
use super::client::Client;
use super::facts::{Facts, Heads, Outcome};
use super::outgoing::Outgoing;
use super::retry::Route;
use super::upstream::{OpenError, Upstream};
use super::wire::Wire;
use super::{prepare, screen};
use crate::filter::{Changes, Decision, ForwardAuth};
use crate::message::scan::HeadScan;
use crate::message::{Framing, Method, RequestHead, ResponseHead};
use crate::reason::Reason;
use crate::table::{CompiledApp, RoutingTable, Upstream as Manner};
use crate::worker::Buffer;

/// As of any response: a flood of interim ones is no answer.
const MAX_INTERIM: usize = 8;

/// Asks `filter`'s app about a request.
pub async fn may_pass<W: Wire>(
    client: &mut Client<W>,
    (table, asking): (&RoutingTable, &AppId),
    filter: &ForwardAuth,
    (request, head): (&RequestHead, &[u8]),
    facts: &Facts,
    changes: &mut Changes,
) -> Decision {
    const FAILED: Decision = Decision::Refuse(Reason::ForwardAuthFailed);
    // What an app answers is for those whom its owner lets ask: the question passes none of its filters.
    let lets_ask = |app: &CompiledApp| {
        app.spec.filters.as_ref().is_some_and(|filters| filters.asked_by.contains(asking))
    };
    let can_answer = |app: &&Arc<CompiledApp>| {
        lets_ask(app) && !(app.http.is_empty() || matches!(app.upstream, Manner::Unknown))
    };
    let Some(app) = table.app(filter.app()).filter(can_answer) else { return FAILED };
    let question = filter.question(request, head, changes);
    // Ours and the client's fields together may be more than a head can hold.
    let Ok(parsed) = RequestHead::parse(&question) else { return FAILED };
    let facts = Facts { method: Method::Get, ..Facts::unknown(Instant::now(), facts.id, question.len()) };
    let heads = prepare::heads(client, app, None, (&parsed, &question), &facts, None, None);
    let key = screen::key(client, app, (&parsed, &question), &facts);
    let asking = Box::pin(ask(client, (app, key), heads, &facts));
    match tokio::time::timeout(filter.timeout(), asking).await {
        Ok(Some((response, bytes))) => filter.conclude(&response, &bytes, changes),
        Ok(None) | Err(_) => FAILED,
    }
}

/// The head of the answer; `None`: there is none.
async fn ask<W: Wire>(
    client: &mut Client<W>,
    (app, key): (&Arc<CompiledApp>, Option<u64>),
    mut heads: Heads,
    facts: &Facts,
) -> Option<(ResponseHead, Vec<u8>)> {
    let worker = client.worker.clone();
    let mut route = Route::new(&worker, app, app.way(None), key);
    let admitted = admit(client, route.wanted()).await.ok()?;
    let mut endpoint = route.begin(admitted);
    loop {
        let mut outcome = Outcome::of(endpoint.clone(), route.retries());
        let asked = ask_one(client, &mut heads, facts, &mut outcome).await;
        outcome.failure = asked.as_ref().err().copied();
        outcome.status = asked.as_ref().map_or(0, |(response, _)| response.status);
        outcome.responded = asked.is_ok().then(Instant::now);
        route.observe(&outcome);
        let cells = endpoint.metrics.cells(worker.index);
        let reason = match asked {
            Ok(answer) => {
                cells.count_answer(facts.method, outcome.status);
                cells.upstream_seconds.record(outcome.attempted.elapsed());
                return Some(answer);
            }
            Err(reason) => reason,
        };
        cells.count_failure(facts.method, reason);
        let cause = match reason {
            Reason::ConnectFailed | Reason::ConnectTimeout => RetryCause::ConnectFailed,
            Reason::UpstreamReset => RetryCause::Reset,
            _ => return None,
        };
        if client.is_aborting() {
            return None;
        }
        endpoint = route.next(cause, &outcome.endpoint, outcome.is_reused)?;
    }
}

async fn ask_one<W>(
    client: &mut Client<W>,
    heads: &mut Heads,
    facts: &Facts,
    outcome: &mut Outcome,
) -> Result<(ResponseHead, Vec<u8>), Reason> {
    let worker = client.worker.clone();
    let endpoint = outcome.endpoint.clone();
    let cells = endpoint.metrics.cells(worker.index);
    let may_reuse = outcome.retries == 0;
    let Client { origin, deadline, .. } = &*client;
    let opened = Upstream::open(&worker, &endpoint, origin, deadline, heads, facts, may_reuse).await;
    let (mut upstream, is_reused) = opened.map_err(|error| {
        cells.connect_failures.increment();
        match error {
            OpenError::Failed => Reason::ConnectFailed,
            OpenError::TimedOut => Reason::ConnectTimeout,
            OpenError::Tls => Reason::UpstreamTlsFailed,
            OpenError::OutOfSockets => Reason::OutOfSockets,
            OpenError::Refused(reason) => reason,
        }
    })?;
    outcome.is_reused = is_reused;
    let counter = if is_reused { &cells.reuses } else { &cells.connects };
    counter.increment();
    let head = if upstream.is_framed() { Vec::new() } else { heads.http1.clone() };
    let mut received = None;
    let answer = await_answer(client, &mut upstream, head, facts, &mut received).await;
    let is_whole = matches!(&answer, Ok((response, _)) if is_over(response, received.as_ref()));
    received.into_iter().for_each(|buffer| worker.buffers.put(buffer));
    if is_whole {
        upstream.keep(&worker, &endpoint, facts.patience.kept);
    }
    answer
}

/// Sends `head`, where it was not sent yet, and waits for a final response. What follows that is in
/// `received`.
async fn await_answer<W>(
    client: &mut Client<W>,
    upstream: &mut Upstream,
    head: Vec<u8>,
    facts: &Facts,
    received: &mut Option<Buffer>,
) -> Result<(ResponseHead, Vec<u8>), Reason> {
    let buffers = &client.worker.buffers;
    let mut outgoing = Outgoing::starting_with(head);
    client.deadline.set(facts.patience.first_byte);
    for _ in 0..MAX_INTERIM {
        let mut scan = HeadScan::default();
        let found = client.deadline.bound(|context| {
            if let Upstream::Http1(stream) = upstream {
                let sent = ready!(outgoing.poll_send(context, &mut **stream, buffers));
                sent.map_err(|_| Reason::UpstreamReset)?;
            }
            let polled = upstream.poll_head(context, &mut scan, received, facts.method, usize::MAX, buffers);
            polled.map_err(|lost| lost.reason)
        });
        let (response, length) = found.await.map_err(|_| Reason::UpstreamTimeout)??;
        let bytes = received.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..length]).to_vec();
        if let Some(buffer) = received {
            buffer.start += length;
        }
        if !response.is_interim() {
            return Ok((*response, bytes));
        }
    }
    Err(Reason::UpstreamBadResponse)
}

/// Whether all of the answer has come, so that its connection serves again. What it says beside its head is
/// of no interest; a longer body is not waited for.
fn is_over(response: &ResponseHead, received: Option<&Buffer>) -> bool {
    let arrived = received.map_or(0, |buffer| buffer.filled().len() as u64);
    let length = match response.framing {
        Framing::None => 0,
        Framing::Length(length) => length,
        Framing::Chunked | Framing::UntilClose => return false,
    };
    response.keep_alive && arrived == length
}
