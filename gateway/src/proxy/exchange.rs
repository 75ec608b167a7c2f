//! A request and its response: who is asked, and who is asked instead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::answer::Answer;
use super::attempt::Attempt;
use super::client::Client;
use super::facts::{After, Facts, Outcome, Refusal, Request};
use super::feedback;
use super::record;
use super::refuse::refuse;
use super::screen;
use super::wire::Wire;
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};

/// Different endpoints that one request may be sent to. A third failure is the app's, not an endpoint's.
const MAX_ATTEMPTS: usize = 3;

pub async fn run<W: Wire>(client: &mut Client<W>, request: Request) -> After {
    let request = match request.undecided {
        None => request,
        Some(_) => match Box::pin(screen::wait(client, request)).await {
            Ok(request) => request,
            Err(refusal) => return refuse(client, *refusal).await,
        },
    };
    let Request { table: _table, app, mut heads, facts, .. } = request;
    let worker = client.worker.clone();
    let turn = app.http.next_turn(&app.live);
    let Some(mut endpoint) = worker.rotations.pick(&app, &app.http, turn) else {
        let reason = Reason::NoHealthyEndpoint;
        return refuse(client, Refusal { facts, reason, detail: None, app: Some(app), location: None }).await;
    };
    let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
    loop {
        tried.push(endpoint.live.id);
        let retries = tried.len() as u32 - 1;
        let mut attempt = Attempt::new(client, &facts, endpoint, retries, heads);
        let failure = match attempt.run().await {
            Ok(after) => {
                let outcome = attempt.into_outcome();
                feedback::observe(&worker, &app, &outcome);
                record::exchange(client, &facts, &outcome);
                return after;
            }
            Err(failure) => failure,
        };
        let (unsent, mut outcome) = attempt.into_parts();
        heads = unsent;
        outcome.failure = Some(failure.reason);
        feedback::observe(&worker, &app, &outcome);
        if matches!(failure.reason, Reason::ConnectFailed | Reason::ConnectTimeout) {
            worker.rotations.suspect(outcome.endpoint.live.id);
        }
        let is_repeatable = failure.is_repeatable && tried.len() < MAX_ATTEMPTS && !client.is_aborting();
        let next = if is_repeatable { choose_again(client, &app, turn, &tried, &outcome) } else { None };
        let Some(next) = next else {
            if failure.is_untouched && client.wire.decline() {
                record::exchange(client, &facts, &outcome);
                return After::KeepAlive;
            }
            return fail(client, &facts, outcome).await;
        };
        outcome.endpoint.metrics.cells(worker.index).retries.increment();
        endpoint = next;
    }
}

/// The endpoint for the next attempt. A kept connection that its endpoint had just closed says nothing
/// against the endpoint: where there is no other, a new connection to it gets the second attempt. That
/// is RFC 9112 section 9.3.1's retry, not a second try of an endpoint that failed.
fn choose_again<W>(
    client: &Client<W>,
    app: &CompiledApp,
    turn: usize,
    tried: &[u64],
    last: &Outcome,
) -> Option<Arc<PooledEndpoint>> {
    client.worker.rotations.pick_again(app, &app.http, turn, tried).or_else(|| {
        let was_stale = last.is_reused && last.failure == Some(Reason::UpstreamReset) && tried.len() == 1;
        was_stale.then(|| last.endpoint.clone())
    })
}

/// Nothing of a response has reached the client yet.
async fn fail<W: Wire>(client: &mut Client<W>, facts: &Facts, mut outcome: Outcome) -> After {
    let reason = outcome.failure.unwrap_or(Reason::UpstreamReset);
    let after = if reason == Reason::ClientAbort {
        After::Close
    } else {
        let keep_alive = facts.keep_alive && !facts.has_body();
        let sent = W::answer(client, Answer::new(reason, None).of(facts), facts, keep_alive).await;
        outcome.body_bytes = sent.as_ref().map_or(0, |sent| sent.body);
        outcome.sent_bytes += sent.as_ref().map_or(0, |sent| sent.bytes);
        match sent {
            Err(_) => After::Close,
            Ok(_) if keep_alive => After::KeepAlive,
            Ok(_) => client.wire.after_last(facts.has_body(), facts),
        }
    };
    record::exchange(client, facts, &outcome);
    after
}
