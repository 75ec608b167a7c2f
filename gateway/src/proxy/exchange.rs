//! A request and its response: who is asked, and who is asked instead.

use bytes::Bytes;

use super::admission::admit;
use super::answer::Answer;
use super::attempt::Attempt;
use super::client::Client;
use super::facts::{After, Facts, Outcome, Refusal, Request};
use super::hedge::Hedging;
use super::mirror::Copy;
use super::record;
use super::refuse::refuse;
use super::retry::{Route, pause};
use super::wire::Wire;
use super::{screen, spans};
use crate::reason::Reason;

pub async fn run<W: Wire>(client: &mut Client<W>, mut request: Box<Request>) -> After {
    if request.undecided.is_some() {
        request = match Box::pin(screen::wait(client, request)).await {
            Ok(request) => request,
            Err(refusal) => return Box::pin(refuse(client, *refusal)).await,
        };
    }
    hold_up(client, &request.facts).await;
    if let Some(whole) = request.facts.patience.request {
        client.deadline.limit(whole);
    }
    let served = serve(client, &mut request).await;
    client.deadline.unlimit();
    match served {
        Ok(after) => after,
        Err(reason) => {
            let Request { facts, app, .. } = *request;
            let refusal = Refusal { facts, reason, detail: None, app: Some(app), location: None };
            Box::pin(refuse(client, refusal)).await
        }
    }
}

/// Asks endpoint after endpoint, until one answers or no other may be asked.
///
/// # Errors
/// Why none was asked.
async fn serve<W: Wire>(client: &mut Client<W>, request: &mut Request) -> Result<After, Reason> {
    let worker = client.worker.clone();
    let mut copy = request.copy.take();
    if let Some(copy) = copy.take_if(|copy| !copy.needs_body()) {
        copy.send(&worker, &client.origin, Some(Bytes::new()));
    }
    let mut heads = std::mem::take(&mut request.heads);
    let Request { app, taken, key, facts, .. } = &*request;
    let session = (*key, facts.returning.as_deref());
    let mut route = Route::returning(&worker, app, app.way(*taken), session);
    let admitted = admit(client, route.wanted()).await?;
    let mut endpoint = route.begin(admitted);
    let mut hedging = app.spec.hedge.as_deref().and_then(|hedge| Hedging::of(hedge, facts, &heads));
    loop {
        let tee = copy.as_ref().and_then(|copy| copy.tee());
        let mut attempt = Attempt::new(client, facts, endpoint, route.retries(), heads, tee);
        let asked = match hedging.take() {
            None => attempt.ask().await,
            Some(hedging) => Box::pin(hedging.ask(&mut attempt, &mut route)).await,
        };
        let cause = attempt.cause(&asked).filter(|_| !attempt.client.is_aborting());
        let last = attempt.outcome();
        let next = cause.and_then(|cause| route.next(cause, &last.endpoint, last.is_reused));
        let failure = match asked {
            Ok(answered) if next.is_none() => {
                let after = attempt.answer(answered).await;
                let body = attempt.take_teed();
                let outcome = attempt.into_outcome();
                route.observe(&outcome);
                record::exchange(client, facts, &outcome);
                send(copy, client, body);
                return Ok(after);
            }
            Ok(answered) => {
                attempt.discard(answered);
                None
            }
            Err(failure) => Some(failure),
        };
        let body = attempt.take_teed();
        let (unsent, mut outcome) = attempt.into_parts();
        heads = unsent;
        outcome.failure = failure.as_ref().map(|failure| failure.reason);
        route.observe(&outcome);
        let Some(next) = next else {
            send(copy, client, body);
            if failure.is_some_and(|failure| failure.is_untouched) && client.wire.decline() {
                record::exchange(client, facts, &outcome);
                return Ok(After::KeepAlive);
            }
            return Ok(Box::pin(fail(client, facts, outcome)).await);
        };
        if let Some(time) = route.backoff()
            && let Err(reason) = Box::pin(pause(client, time)).await
        {
            send(copy, client, body);
            (outcome.failure, outcome.status) = (Some(reason), 0);
            return Ok(Box::pin(fail(client, facts, outcome)).await);
        }
        spans::again(&client.worker, facts, &outcome, &mut heads);
        endpoint = next;
    }
}

/// The original is over: its copy leaves, with the body that was kept.
fn send<W>(copy: Option<Box<Copy>>, client: &Client<W>, body: Option<Bytes>) {
    if let Some(copy) = copy {
        copy.send(&client.worker, &client.origin, body);
    }
}

/// A fault that makes the client wait.
pub async fn hold_up<W: Wire>(client: &mut Client<W>, facts: &Facts) {
    if let Some(delay) = facts.filtered.as_ref().and_then(|filtered| filtered.delay) {
        // Whatever ends it early is noticed by whoever has something for the client.
        let _ = Box::pin(pause(client, delay)).await;
    }
}

/// Nothing of a response has reached the client yet.
async fn fail<W: Wire>(client: &mut Client<W>, facts: &Facts, mut outcome: Outcome) -> After {
    // The client has its own time to take an answer.
    client.deadline.unlimit();
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
