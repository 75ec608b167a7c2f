//! A request and its response: who is asked, and who is asked instead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::attempt::{Attempt, Failure};
use super::client::Client;
use super::facts::{After, Facts, Outcome, Refusal, Request};
use super::refuse::refuse;
use super::{answer, record};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};

/// Different endpoints that one request may be sent to. A third failure is the app's, not an endpoint's.
const MAX_ATTEMPTS: usize = 3;

pub async fn run(client: &mut Client, request: Request) -> After {
    let Request { table: _table, app, mut upstream_head, facts } = request;
    let worker = client.worker.clone();
    worker.retries.deposit();
    let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
    let mut last: Option<Outcome> = None;
    loop {
        let Some(endpoint) = choose(client, &app, &tried, last.as_ref()) else {
            return match last {
                Some(outcome) => fail(client, &facts, outcome).await,
                None => {
                    let reason = Reason::NoHealthyEndpoint;
                    refuse(client, Refusal { facts, reason, detail: None, app: Some(app) }).await
                }
            };
        };
        tried.push(endpoint.live.id);
        let retries = last.as_ref().map_or(0, |outcome| outcome.retries + 1);
        let mut attempt = Attempt::new(client, &facts, endpoint, retries, upstream_head);
        let failure = match attempt.run().await {
            Ok(after) => {
                let outcome = attempt.into_outcome();
                record::exchange(client, &facts, &outcome);
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
            return fail(client, &facts, outcome).await;
        }
        outcome.endpoint.metrics.cells(worker.index).retries.increment();
        last = Some(outcome);
    }
}

/// The endpoint for the next attempt. An idle connection that its endpoint had just closed says nothing
/// against the endpoint: where there is no other, a new connection to it gets the second attempt. That
/// is RFC 9112 section 9.3.1's retry, not a second try of an endpoint that failed.
fn choose(
    client: &Client,
    app: &CompiledApp,
    tried: &[u64],
    last: Option<&Outcome>,
) -> Option<Arc<PooledEndpoint>> {
    let rotations = &client.worker.rotations;
    rotations.pick(app, &app.http, tried).or_else(|| {
        let only =
            last.filter(|outcome| outcome.failure == Some(Reason::UpstreamReset) && tried.len() == 1)?;
        Some(only.endpoint.clone())
    })
}

/// Nothing of a response has reached the client yet.
async fn fail(client: &mut Client, facts: &Facts, mut outcome: Outcome) -> After {
    let reason = outcome.failure.unwrap_or(Reason::UpstreamReset);
    let after = if reason == Reason::ClientAbort {
        After::Close
    } else {
        let keep_alive = facts.keep_alive && !facts.has_body();
        let sent = client.send(answer::write(reason, None, facts.method, keep_alive)).await;
        outcome.sent_bytes = sent.as_ref().copied().unwrap_or(0);
        match sent {
            Err(_) => After::Close,
            Ok(_) if keep_alive => After::KeepAlive,
            Ok(_) => After::Linger,
        }
    };
    record::exchange(client, facts, &outcome);
    after
}
