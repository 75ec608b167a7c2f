//! Where filters are asked: the gateway's own limits first, then the app's chain.

use std::cell::OnceCell;
use std::sync::Arc;

use super::client::Client;
use super::facts::Facts;
use super::matching;
use crate::filter::{Asked, Changes, Decision, Filtered, Filters, Page, RateLimits, Step};
use crate::message::RequestHead;
use crate::reason::Reason;
use crate::table::{CompiledApp, CompiledMatch, Matches};

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
    match with_asked(client, ("", None), head, place, facts, |asked| limits.decide(asked, changes)) {
        Decision::Pass => Ok(()),
        Decision::Refuse(reason) => Err(reason),
    }
}

/// The app's chain, from its beginning.
pub fn decide<W>(
    client: &Client<W>,
    (app, filters, taken): (&CompiledApp, &Filters, Option<usize>),
    head: Head<'_>,
    place: Place<'_>,
    facts: &Facts,
    changes: &mut Option<Box<Changes>>,
) -> Step {
    let changes = changes.get_or_insert_default();
    let taken_by = taken.and_then(|position| app.match_at(position)).map(CompiledMatch::name);
    with_asked(client, (app.id.as_str(), taken_by), head, place, facts, |asked| {
        filters.decide(asked, changes, 0)
    })
}

/// The position of the app's match that takes the request, which is counted and logged.
pub fn taken_by<W>(
    client: &Client<W>,
    (app, matches): (&CompiledApp, &Matches),
    head: Head<'_>,
    place: Place<'_>,
    facts: &mut Facts,
) -> Option<usize> {
    let taken = with_asked(client, (app.id.as_str(), None), head, place, facts, |asked| {
        matching::taken_by(matches, asked)
    })?;
    let entry = matches.at(taken)?;
    entry.live.count(client.worker.index);
    if let Some(log) = &mut facts.log {
        log.set_taken_by(entry.name());
    }
    Some(taken)
}

/// An answer that is given before the chain is asked looks as the app's others do.
pub fn dress(app: &CompiledApp, (request, head): Head<'_>, changes: &mut Option<Box<Changes>>) {
    let pages = app.filters.as_ref().and_then(|filters| filters.error_pages());
    if let Some(pages) = pages {
        changes.get_or_insert_default().page = Some(Page::of(request, head, Some(pages.clone())));
    }
}

fn with_asked<W, T>(
    client: &Client<W>,
    (app, taken_by): (&str, Option<&str>),
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
        taken_by,
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
