//! Where filters are asked: the gateway's own limits first, then the app's chain. Where one of them has to
//! wait, the head is kept until it has decided.

use std::sync::Arc;

use topology::Balance;

use super::client::Client;
use super::facts::{Facts, Refusal, Request};
use super::wire::Wire;
use super::{ask, hashing, matching, prepare, timeouts};
use crate::filter::basic_auth::{BasicAuth, Verdict, verify};
use crate::filter::{
    Asked, Changes, Decision, Filtered, Filters, Found, Page, RateLimits, RequestFilter, Step,
};
use crate::message::{Method, NO_NAMES, RequestHead, target};
use crate::reason::Reason;
use crate::table::{CompiledApp, CompiledMatch, Matches};

/// A head, parsed, and its bytes.
type Head<'a> = (&'a RequestHead, &'a [u8]);
/// Host and path, normalized.
type Place<'a> = (&'a str, &'a [u8]);

/// A request whose chain waits for one of its filters.
#[derive(Debug)]
pub struct Undecided {
    parsed: RequestHead,
    head: Vec<u8>,
    host: Box<str>,
    path: Box<[u8]>,
    hops: Option<u64>,
    changes: Box<Changes>,
    /// Which filter.
    at: usize,
}

impl Undecided {
    pub fn new(
        (parsed, head): Head<'_>,
        (host, path): Place<'_>,
        hops: Option<u64>,
        changes: Option<Box<Changes>>,
        at: usize,
    ) -> Box<Self> {
        Box::new(Self {
            parsed: parsed.clone(),
            head: head.to_vec(),
            host: host.into(),
            path: path.into(),
            hops,
            changes: changes.unwrap_or_default(),
            at,
        })
    }
}

/// The limits of the gateway as a whole.
///
/// # Errors
/// Why the request is refused.
pub fn limit<W>(
    client: &Client<W>,
    (limits, app): (&RateLimits, Option<&CompiledApp>),
    head: Head<'_>,
    place: Place<'_>,
    facts: &Facts,
    changes: &mut Option<Box<Changes>>,
) -> Result<(), Reason> {
    let changes = changes.get_or_insert_default();
    match with_asked(client, (app, None), head, place, facts, |asked| limits.decide(asked, changes)) {
        Decision::Refuse(reason) => Err(reason),
        Decision::Pass | Decision::Wait => Ok(()),
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
    with_asked(client, (Some(app), taken), head, place, facts, |asked| filters.decide(asked, changes, 0))
}

/// The position of the app's match that takes the request, which is counted and logged.
pub fn taken_by<W>(
    client: &Client<W>,
    (app, matches): (&CompiledApp, &Matches),
    head: Head<'_>,
    place: Place<'_>,
    facts: &mut Facts,
) -> Option<usize> {
    let taken = with_asked(client, (Some(app), None), head, place, facts, |asked| {
        matching::taken_by(matches, asked)
    })?;
    let entry = matches.at(taken)?;
    entry.live.count(client.worker.index);
    if let Some(log) = &mut facts.log {
        log.set_taken_by(entry.name());
    }
    Some(taken)
}

/// What the request's endpoint is chosen by; `None` where the app does not hash, and where the request has no key.
#[inline]
pub fn key<W>(client: &Client<W>, app: &CompiledApp, head: Head<'_>, facts: &Facts) -> Option<u64> {
    let Balance::Hash(hashing) = &app.spec.balance else { return None };
    // That it has one was seen when it was routed.
    let path = target::route_path(head.0.path_and_query.within(head.1)).unwrap_or_default();
    with_asked(client, (Some(app), None), head, ("", &path), facts, |asked| hashing::key(asked, hashing))
}

/// An answer that is given before the chain is asked looks as the app's others do.
pub fn dress(app: &CompiledApp, (request, head): Head<'_>, changes: &mut Option<Box<Changes>>) {
    let pages = app.filters.as_ref().and_then(|filters| filters.error_pages());
    if let Some(pages) = pages {
        changes.get_or_insert_default().page = Some(Page::of(request, head, Some(pages.clone())));
    }
}

/// The rest of the chain, once the filter that it waits for has decided.
///
/// # Errors
/// The refusal, by that filter or by a later one, or for what the app lacks.
pub async fn wait<W: Wire>(
    client: &mut Client<W>,
    mut request: Box<Request>,
) -> Result<Box<Request>, Box<Refusal>> {
    let Some(undecided) = request.undecided.take() else { return Ok(request) };
    let Some(filters) = request.app.filters.clone() else { return Ok(request) };
    let Undecided { parsed, head, host, path, hops, mut changes, mut at } = *undecided;
    let (head, place) = ((&parsed, &head[..]), (&*host, &*path));
    loop {
        let filter = &filters.request[at];
        let decision = find_out(client, &request, filter, head, place, &mut changes).await;
        filters.count(filter.kind(), decision, client.worker.index);
        if let Decision::Refuse(reason) = decision {
            return Err(refused(request, Some(changes), reason));
        }
        let (app, facts) = (of(&request), &request.facts);
        let ask = |asked: &Asked<'_>| filters.decide(asked, &mut changes, at + 1);
        match with_asked(client, app, head, place, facts, ask) {
            Step::Passed => return prepare::set_out(client, request, head.0, head.1, hops, Some(changes)),
            Step::Refused(reason) => return Err(refused(request, Some(changes), reason)),
            Step::Waits(next) => at = next,
        }
    }
}

/// The app that a request is for, as far as that is known, and the position of its match that took it.
type For<'a> = (Option<&'a CompiledApp>, Option<usize>);

fn of(request: &Request) -> For<'_> {
    (Some(&request.app), request.taken)
}

async fn find_out<W: Wire>(
    client: &mut Client<W>,
    request: &Request,
    filter: &RequestFilter,
    head: Head<'_>,
    place: Place<'_>,
    changes: &mut Changes,
) -> Decision {
    match filter {
        RequestFilter::BasicAuth(basic) => {
            let app = of(request);
            let claim = with_asked(client, app, head, place, &request.facts, |asked| basic.claim(asked));
            match claim {
                Ok(claim) => verify_password(client, basic, claim, changes).await,
                Err(reason) => Decision::Refuse(reason),
            }
        }
        RequestFilter::ForwardAuth(forward) => {
            ask::may_pass(client, (&request.table, &request.app.id), forward, head, &request.facts, changes)
                .await
        }
        // No other one waits.
        _ => Decision::Pass,
    }
}

async fn verify_password<W>(
    client: &Client<W>,
    basic: &BasicAuth,
    claim: crate::filter::basic_auth::Claim,
    changes: &mut Changes,
) -> Decision {
    let claim = Arc::new(claim);
    client.deadline.set(timeouts::VERIFICATION);
    let mut verifying = Box::pin(verify(basic.app(), claim.clone(), basic.cache().clone()));
    let verdict = client.deadline.bound(|context| verifying.as_mut().poll(context)).await;
    basic.conclude(&claim, verdict.unwrap_or(Verdict::Busy), changes)
}

fn with_asked<W, T>(
    client: &Client<W>,
    (app, taken): For<'_>,
    (request, head): Head<'_>,
    (host, path): Place<'_>,
    facts: &Facts,
    ask: impl FnOnce(&Asked<'_>) -> T,
) -> T {
    let (worker, origin) = (&client.worker, &client.origin);
    let trusts = |address| worker.shared.is_trusted(address);
    let filters = app.and_then(|app| app.filters.as_deref());
    let taken_by = app.and_then(|app| app.match_at(taken?)).map(CompiledMatch::name);
    ask(&Asked {
        request,
        head,
        path,
        host,
        app: app.map_or("", |app| app.id.as_str()),
        taken_by,
        id: &facts.id,
        now: facts.started,
        worker: worker.index,
        is_tls: origin.listener.is_tls(),
        peer: origin.peer.ip(),
        trusts: origin.is_trusted.then_some(&trusts),
        told: filters.map_or(&NO_NAMES, |filters| &filters.told),
        found: Found::default(),
    })
}

/// A request that its app's chain, or what the app lacks, stops.
pub fn refused(request: Box<Request>, changes: Option<Box<Changes>>, reason: Reason) -> Box<Refusal> {
    let Request { app, mut facts, .. } = *request;
    facts.filtered = filtered(changes, app.filters.as_ref());
    // What follows may be meant for the tunnel.
    facts.keep_alive &= facts.method != Method::Connect;
    Box::new(Refusal { facts, reason, detail: None, app: Some(app), location: None })
}

/// What is left of the changes for the response.
pub fn filtered(changes: Option<Box<Changes>>, filters: Option<&Arc<Filters>>) -> Option<Box<Filtered>> {
    changes.map(|changes| Box::new(changes.into_filtered(filters.cloned())))
}
