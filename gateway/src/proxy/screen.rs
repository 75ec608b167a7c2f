//! Where filters are asked: the gateway's own limits first, then the app's chain.

use std::cell::OnceCell;
use std::sync::Arc;

use super::client::Client;
use super::facts::Facts;
use crate::filter::{Asked, Changes, Decision, Filtered, Filters, RateLimits, Step};
use crate::message::RequestHead;
use crate::reason::Reason;
use crate::table::CompiledApp;

/// A head, parsed, and its bytes.
type Head<'a> = (&'a RequestHead, &'a [u8]);
/// Host and path, normalized.
type Place<'a> = (&'a str, &'a [u8]);

/// The limits of the gateway as a whole.
///
/// # Errors
/// Why the request is refused.
pub fn limit<W>(
    client: &Client<W>,
    limits: &RateLimits,
    head: Head<'_>,
    place: Place<'_>,
    facts: &Facts,
    changes: &mut Option<Box<Changes>>,
) -> Result<(), Reason> {
    let changes = changes.get_or_insert_default();
    match with_asked(client, "", head, place, facts, |asked| limits.decide(asked, changes)) {
        Decision::Pass => Ok(()),
        Decision::Refuse(reason) => Err(reason),
    }
}

/// The app's chain, from its beginning.
pub fn decide<W>(
    client: &Client<W>,
    (app, filters): (&CompiledApp, &Filters),
    head: Head<'_>,
    place: Place<'_>,
    facts: &Facts,
    changes: &mut Option<Box<Changes>>,
) -> Step {
    let changes = changes.get_or_insert_default();
    with_asked(client, app.id.as_str(), head, place, facts, |asked| filters.decide(asked, changes, 0))
}

fn with_asked<W, T>(
    client: &Client<W>,
    app: &str,
    (request, head): Head<'_>,
    (host, path): Place<'_>,
    facts: &Facts,
    ask: impl FnOnce(&Asked<'_>) -> T,
) -> T {
    let (worker, origin) = (&client.worker, &client.origin);
    let trusts = |address| worker.shared.is_trusted(address);
    ask(&Asked {
        request,
        head,
        path,
        host,
        app,
        id: &facts.id,
        now: facts.started,
        worker: worker.index,
        is_tls: origin.listener.is_tls(),
        peer: origin.peer.ip(),
        trusts: origin.is_trusted.then_some(&trusts),
        client: OnceCell::new(),
    })
}

/// What is left of the changes for the response.
pub fn filtered(changes: Option<Box<Changes>>, filters: Option<&Arc<Filters>>) -> Option<Box<Filtered>> {
    changes.map(|changes| Box::new(changes.into_filtered(filters.cloned())))
}
