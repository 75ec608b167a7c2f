//! Why a request goes where it goes: what requests are asked on their way, asked for one that nobody has sent.
//!
//! It decides nothing itself. Hosts and paths are walked by [`crate::table`], matches by [`matching`], what an app lets
//! pass by [`admit`], filters by their own `decide`, candidates by [`crate::table::Pool::ranks`]; here is written down
//! what they say, and what lost with it. Nothing is counted, fetched or sent, so what depends on a real request (a
//! rate, a lot, a password, another app's answer) is told as what it depends on.

mod choice;
mod policies;
mod question;
mod route;
mod show;
mod view;

use std::net::IpAddr;
use std::time::Instant;

use question::Question;
pub use show::show;
use view::*;

use crate::filter::{Asked, Changes, Foreseen, RateLimits};
use crate::message::{Malformed, NO_NAMES, RequestHead, target};
use crate::proxy::admit::{Approach, admit, lacks, unfit};
use crate::proxy::{BodyLimits, hops, is_grpc, matching};
use crate::reason::Reason;
use crate::table::{CompiledApp, CompiledMatch, Match, RoutingTable};
use crate::worker::nobody;

/// Rows of one list; what was chosen is among them however many there are.
const MAX_ROWS: usize = 100;

/// What explaining needs beside the table.
pub struct Surroundings<'a> {
    /// Whether an address is one of `trusted_proxies`.
    pub trusts: &'a dyn Fn(IpAddr) -> bool,
    /// The gateway's own, which every request is counted by.
    pub rate_limits: Option<&'a RateLimits>,
}

/// A question, read as its listener reads requests.
struct Reading<'q> {
    question: &'q Question,
    parsed: RequestHead,
    path: Vec<u8>,
    host: String,
    hops: Option<u64>,
}

impl<'q> Reading<'q> {
    fn of(question: &'q Question) -> Result<Self, Malformed> {
        let head = &question.head[..];
        let parsed = RequestHead::parse_within(head, question.doorway.limits.head)?;
        let path = target::route_path(parsed.path_and_query.within(head))?.into_owned();
        let hops = hops::left(&parsed, head)?;
        let host = topology::normalize_host(parsed.authority.within(head)).unwrap_or_default().into_owned();
        Ok(Self { question, parsed, path, host, hops })
    }

    fn head(&self) -> &'q [u8] {
        &self.question.head
    }

    fn approach(&self) -> Approach<'q> {
        let Question { doorway, is_trusted, .. } = self.question;
        // Nobody shows a certificate in a question.
        Approach {
            https: &doorway.https,
            is_tls: doorway.is_tls,
            is_trusted: *is_trusted,
            has_certificate: false,
        }
    }

    fn asked<T>(
        &self,
        (app, taken): (&CompiledApp, Option<usize>),
        around: &Surroundings<'_>,
        ask: impl FnOnce(&Asked<'_>) -> T,
    ) -> T {
        ask(&Asked {
            request: &self.parsed,
            head: self.head(),
            path: &self.path,
            host: &self.host,
            app: app.id.as_str(),
            taken_by: taken.and_then(|taken| app.match_at(taken)).map(CompiledMatch::name),
            id: &[b'0'; 32],
            now: Instant::now(),
            worker: 0,
            is_tls: self.question.doorway.is_tls,
            peer: self.question.client,
            trusts: self.question.is_trusted.then_some(around.trusts),
            told: app.filters.as_deref().map_or(&NO_NAMES, |filters| &filters.told),
            found: Default::default(),
        })
    }
}

/// What becomes of the question's request by this table.
pub fn explain(table: &RoutingTable, question: &Question, around: &Surroundings<'_>) -> Explanation {
    let mut told = Explanation::begin(table.snapshot.revision.0, question);
    if around.rate_limits.is_some() {
        told.outcome.depends_on.push("gateway.rate_limits: how often the client has asked".to_owned());
    }
    let reading = match Reading::of(question) {
        Ok(reading) => reading,
        Err(malformed) => {
            told.outcome.refuse(malformed.into());
            told.outcome.detail = Some(malformed.to_string());
            return told;
        }
    };
    told.is_read = true;
    told.request.host = reading.host.clone();
    told.request.path = String::from_utf8_lossy(&reading.path).into_owned();
    let listener = &*question.doorway.name;
    let found = table.find(listener, &reading.host, &reading.path);
    (told.hosts, told.routes) = route::walk(table, listener, &reading.host, &reading.path);
    if let Some(reason) = unfit(&reading.parsed, reading.hops, &found) {
        told.outcome.refuse(reason);
        return told;
    }
    match found {
        Match::App(app) => in_app(app, &reading, around, &mut told),
        Match::UnknownHost => told.outcome.refuse(Reason::UnknownHost),
        Match::UnknownPath => told.outcome.refuse(Reason::UnknownPath),
    }
    told
}

/// A request whose app is known.
fn in_app(app: &CompiledApp, reading: &Reading<'_>, around: &Surroundings<'_>, told: &mut Explanation) {
    let (parsed, head) = (&reading.parsed, reading.head());
    told.app = Some(app.id.to_string());
    told.rejection = app.rejection.as_ref().map(ToString::to_string);
    let matches = app.matches.as_deref();
    let taken = reading
        .asked((app, None), around, |asked| matches.and_then(|matches| matching::taken_by(matches, asked)));
    told.matches = reading.asked((app, None), around, |asked| route::matches(app, taken, asked));
    let limits = &reading.question.doorway.limits;
    let body = BodyLimits::of(limits, app.spec.limits.as_deref(), is_grpc(parsed, head));
    let place = (&*reading.host, &*reading.path);
    let mut changes = Changes::default();
    if let Err((reason, location)) = admit(reading.approach(), app, taken, parsed, head, place) {
        told.outcome.refuse(reason);
        told.outcome.location = location.map(|location| String::from_utf8_lossy(&location).into_owned());
        told.filters = filters(app, None);
    } else {
        let chain = |asked: &Asked<'_>| filters(app, Some((asked, &mut changes, &mut told.outcome)));
        told.filters = reading.asked((app, taken), around, chain);
    }
    if told.outcome.reason.is_none()
        && let Some(reason) = lacks(app, taken, parsed, head, body.max)
    {
        told.outcome.refuse(reason);
    }
    let spread = app.way(taken).0;
    let key = reading.asked((app, taken), around, |asked| choice::key(app, asked));
    told.balance = Some(choice::balance(app, spread, key));
    told.session = choice::session(app, spread, (parsed, head));
    let is_kept = told.session.as_ref().is_some_and(|session| session.is_kept);
    told.versions = choice::versions(app, taken);
    if told.outcome.reason.is_none() {
        match is_kept || choice::has_somebody(app, spread) {
            true => told.outcome.forward(&changes, parsed.path_and_query.within(head)),
            false => told.outcome.refuse(nobody(spread)),
        }
    }
    told.policies = Some(policies::of(app, body, (parsed, head), limits));
}

/// The chain, in its order; after the first that refuses, nobody is asked. `None`: none is, since the request does not
/// come to them.
fn filters(app: &CompiledApp, asked: Option<(&Asked<'_>, &mut Changes, &mut Outcome)>) -> Vec<FilterStep> {
    let mut asked = asked;
    let chain = app.filters.iter().flat_map(|filters| &filters.request);
    let step = |filter: &crate::filter::RequestFilter| {
        let kind = filter.kind();
        let effect = match &mut asked {
            Some((asked, changes, outcome)) if outcome.reason.is_none() => {
                match filter.foresee(asked, changes) {
                    Foreseen::Passes => "passes".to_owned(),
                    Foreseen::Depends(what) => {
                        outcome.depends_on.push(format!("{}: {what}", kind.as_str()));
                        format!("depends on {what}")
                    }
                    Foreseen::Refuses(reason) => {
                        outcome.refuse(reason);
                        outcome.status = Some(changes.status.unwrap_or_else(|| reason.status()));
                        outcome.location = location(&changes.always);
                        format!("answers {}: {}", outcome.status.unwrap_or_default(), reason.as_str())
                    }
                }
            }
            _ => "not reached".to_owned(),
        };
        FilterStep {
            filter: kind.as_str(),
            phase: kind.phase().as_str(),
            settings: filter.describe(),
            effect,
        }
    };
    chain.map(step).collect()
}

/// Of field lines.
fn location(lines: &[u8]) -> Option<String> {
    let lines = String::from_utf8_lossy(lines);
    lines.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests;
