//! A request and its response: who is asked, and who is asked instead.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::attempt::{self, Attempt, Failure};
use super::connection::{After, Connection};
use super::prepare::{Facts, Refusal, Request};
use super::{answer, record};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};

/// Different endpoints that one request may be sent to. A third failure is the app's, not an endpoint's.
const MAX_ATTEMPTS: usize = 3;

/// What came of the last attempt.
#[derive(Debug)]
pub struct Outcome {
    pub endpoint: Arc<PooledEndpoint>,
    pub retries: u32,
    /// When that attempt began.
    pub attempted: Instant,
    pub responded: Option<Instant>,
    /// Of the endpoint's response; 0 if there was none.
    pub status: u16,
    pub failure: Option<Reason>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

pub async fn run(connection: &mut Connection, request: Request) -> After {
    let Request { table: _table, app, mut upstream_head, facts } = request;
    let worker = connection.worker.clone();
    worker.retries.deposit();
    let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
    let mut last: Option<Outcome> = None;
    loop {
        let Some(endpoint) = choose(connection, &app, &tried, last.as_ref()) else {
            return match last {
                Some(outcome) => fail(connection, &facts, outcome).await,
                None => refuse(connection, app, facts).await,
            };
        };
        tried.push(endpoint.live.id);
        let retries = last.as_ref().map_or(0, |outcome| outcome.retries + 1);
        let mut attempt = Attempt::new(connection, &facts, endpoint, retries, upstream_head);
        let failure = match attempt.run().await {
            Ok(after) => {
                let outcome = attempt.into_outcome();
                record::exchange(connection, &facts, &outcome);
                return after;
            }
            Err(failure) => failure,
        };
        let Failure { reason, is_repeatable } = failure;
        let (head, mut outcome) = attempt.into_parts();
        upstream_head = head;
        outcome.failure = Some(reason);
        if matches!(reason, Reason::ConnectFailed | Reason::ConnectTimeout) {
            worker.rotations.suspect(outcome.endpoint.live.id);
        }
        let again = is_repeatable && tried.len() < MAX_ATTEMPTS && worker.retries.withdraw();
        if !again {
            return fail(connection, &facts, outcome).await;
        }
        outcome.endpoint.metrics.cells(worker.index).retries.increment();
        last = Some(outcome);
    }
}

/// The endpoint for the next attempt. An idle connection that its endpoint had just closed says nothing
/// against the endpoint: where there is no other, a new connection to it gets the second attempt. That
/// is RFC 9112 section 9.3.1's retry, not a second try of an endpoint that failed.
fn choose(
    connection: &Connection,
    app: &CompiledApp,
    tried: &[u64],
    last: Option<&Outcome>,
) -> Option<Arc<PooledEndpoint>> {
    let rotations = &connection.worker.rotations;
    rotations.pick(app, &app.http, tried).or_else(|| {
        let only =
            last.filter(|outcome| outcome.failure == Some(Reason::UpstreamReset) && tried.len() == 1)?;
        Some(only.endpoint.clone())
    })
}

async fn refuse(connection: &mut Connection, app: Arc<CompiledApp>, facts: Facts) -> After {
    let refusal = Refusal { facts, reason: Reason::NoHealthyEndpoint, detail: None, app: Some(app) };
    connection.refuse(refusal).await
}

/// Nothing of a response has reached the client yet.
async fn fail(connection: &mut Connection, facts: &Facts, mut outcome: Outcome) -> After {
    let reason = outcome.failure.unwrap_or(Reason::UpstreamReset);
    let after = if reason == Reason::ClientAbort {
        After::Close
    } else {
        let keep_alive = facts.keep_alive && !facts.has_body();
        let sent = connection.send(answer::write(reason, None, facts.method, keep_alive)).await;
        outcome.sent_bytes = sent.as_ref().copied().unwrap_or(0);
        match sent {
            Err(_) => After::Close,
            Ok(_) if keep_alive => After::KeepAlive,
            Ok(_) => After::Linger,
        }
    };
    record::exchange(connection, facts, &outcome);
    after
}

pub use attempt::connect;
