//! Requests that go nowhere: an answer of our own, a count, a line.

use super::answer::Answer;
use super::client::Client;
use super::exchange::hold_up;
use super::facts::{After, Refusal};
use super::record;
use super::wire::{Sent, Wire};
use crate::reason::Reason;

pub async fn refuse<W: Wire>(client: &mut Client<W>, refusal: Refusal) -> After {
    let Refusal { facts, reason, detail, app, location } = refusal;
    hold_up(client, &facts).await;
    // A body that nobody will read leaves the next request's start unknown.
    let keep_alive = facts.keep_alive && !facts.has_body();
    if reason == Reason::ClientAbort {
        record::refusal(client, &facts, reason, app.as_ref().map(|app| &app.metrics), Sent::default());
        return After::Close;
    }
    let sent =
        W::answer(client, Answer::new(reason, detail).at(location).of(&facts), &facts, keep_alive).await;
    let app_metrics = app.as_ref().map(|app| &app.metrics);
    record::refusal(client, &facts, reason, app_metrics, sent.as_ref().copied().unwrap_or_default());
    match sent {
        Err(_) => After::Close,
        Ok(_) if keep_alive => After::KeepAlive,
        Ok(_) => client.wire.after_last(facts.has_body(), &facts),
    }
}
