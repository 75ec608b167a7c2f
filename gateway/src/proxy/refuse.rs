//! Requests that go nowhere: an answer of our own, a count, a line.

use std::time::Instant;

use super::client::Client;
use super::facts::{After, Facts, Refusal};
use super::{answer, record};
use crate::message::Malformed;
use crate::reason::Reason;

/// A head that could not be understood or never came to its end.
pub async fn unparsed(client: &mut Client, reason: Reason, detail: Option<Malformed>) -> After {
    let head_bytes = client.received.as_ref().map_or(0, |buffer| buffer.filled().len());
    let facts = Facts::unknown(Instant::now(), client.worker.request_ids.next(), head_bytes);
    refuse(client, Refusal { facts, reason, detail, app: None, location: None }).await
}

pub async fn refuse(client: &mut Client, refusal: Refusal) -> After {
    let Refusal { facts, reason, detail, app, location } = refusal;
    // A body that nobody will read leaves the next request's start unknown.
    let keep_alive = facts.keep_alive && !facts.has_body();
    let response = answer::write(reason, detail, &facts, &extra(client, location.as_deref()), keep_alive);
    let sent = client.send(response.bytes).await;
    let app_metrics = app.as_ref().map(|app| &app.metrics);
    let sent_bytes = sent.as_ref().copied().unwrap_or(0);
    record::refusal(client, &facts, reason, app_metrics, (sent_bytes, response.body_bytes));
    match sent {
        Err(_) => After::Close,
        Ok(_) if keep_alive => After::KeepAlive,
        Ok(_) => client.after_last(&facts),
    }
}

/// Lines of an answer of our own that its reason does not tell.
pub fn extra(client: &Client, location: Option<&[u8]>) -> Vec<u8> {
    let hsts = client.listener.https.hsts.as_deref().unwrap_or_default();
    let mut lines = hsts.to_vec();
    if let Some(location) = location {
        lines.extend_from_slice(b"Location: ");
        lines.extend_from_slice(location);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}
