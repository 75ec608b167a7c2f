//! What operators want done to a request on its way: a typed chain, compiled with the table.
//!
//! An app without filters has none of this: [`crate::table::CompiledApp::filters`] is one pointer, and a
//! request looks at it once. An app with filters has a [`Filters`]: the request-head filters in the order
//! of [`Kind::ALL`], the names of the fields that are taken out of every request and response, and a
//! counter per kind.
//!
//! **Phases.** A filter acts in the phase that its [`Kind`] names, and within a phase in the order of
//! [`Kind::ALL`], whatever the order in the app's file. The order is an argument, not a taste: what costs
//! least and needs to know least comes first (addresses), counting comes before anything that costs
//! (identities), a browser's preflight has no identity and so is answered before one is asked for, and
//! what changes the request comes after all that could refuse it. `/v1/filters` shows it. Whatever looks at a request
//! before it is known who its client is goes by [`Asked::heeded`] and, for paths, by [`fit`] (docs/decisions/0018).
//!
//! - *Request head.* [`Filters::decide`] runs when the app is known and before its endpoints matter. It is
//!   given what is [`Asked`] and leaves [`Changes`]: field lines for the endpoint, another target or host,
//!   field lines for the response, who the client is. A filter passes, refuses (or answers) with a
//!   [`Reason`], or waits: `proxy::screen` then finds out what it waits for, which may take a while, and
//!   goes on with the next one. Only then is a head copied and anything boxed.
//! - *Response head.* What is changed there is known when the request is: the lines wait in [`Filtered`],
//!   which travels with the request's facts. Its `always` lines are on every response, our own
//!   answers included; the others on what an endpoint says. [`Filtered::response_edits`] is asked once
//!   per final response, which is the place for what depends on the response.
//! - *Log.* [`Filtered::consumer`] is whom a filter found the client to be.
//!
//! **How a head is edited.** Never by building a new one: `message::edits` has the list, and the writers of
//! both versions apply it while they copy. Names are fixed per app, so that nothing is compared but what
//! the app named; values are lines of bytes. [`push_line`] cuts a value that could end its line.
//!
//! **To add a filter**: its settings in `topology::filters` and their reader in `discovery::spec::filters`;
//! a [`Kind`] in its place; a folder or file here with a type that has `compile` and `decide`; an arm in
//! [`RequestFilter`] and a line in `compile.rs`; a [`Reason`] if it refuses. State that must outlive a
//! change of the app (counters, caches, limits) is taken over from the former [`Filters`] where its
//! settings are the same (`Keeps` is the trait of those that keep all). Files are opened through [`Sources`], which looks at them again every second.

pub mod addresses;
pub mod api_keys;
mod asked;
pub mod basic_auth;
mod changes;
mod compile;
pub mod compression;
mod cors;
mod faults;
mod foresee;
pub mod forward_auth;
mod headers;
pub mod jwt;
mod kind;
mod maintenance;
mod metrics;
mod mirror;
pub mod pages;
pub mod rate_limits;
mod redirects;
mod respond;
mod rewrite;
mod scope;
pub mod sources;
mod template;

use std::sync::Arc;

use topology::filters::{ErrorPages, Filters as Settings};

pub use addresses::Addresses;
pub use api_keys::ApiKeys;
pub use asked::{Asked, Found};
pub use basic_auth::BasicAuth;
pub use changes::{Changes, Filtered};
pub use compile::{Compiling, compile, inspect};
pub use compression::Compression;
pub use cors::Cors;
pub use faults::Faults;
pub use foresee::Foreseen;
pub use forward_auth::ForwardAuth;
pub use headers::{RequestHeaders, ResponseHeaders};
pub use jwt::Jwt;
pub use kind::{Kind, Phase};
pub use maintenance::Maintenance;
pub use metrics::{FilterCells, FilterMetrics};
pub use mirror::{Mirror, MirrorCells, MirrorMetrics};
pub use pages::Page;
pub use rate_limits::RateLimits;
pub use redirects::Redirects;
pub use respond::Respond;
pub use rewrite::Rewrites;
pub use scope::{Fit, fit};
pub use sources::Sources;

use crate::message::Names;
use crate::message::edits::push_line;
use crate::reason::Reason;

/// What a filter says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pass,
    Refuse(Reason),
    /// It cannot be said at once: `proxy::screen` finds out.
    Wait,
}

/// A filter of the request head's phase.
#[derive(Debug)]
pub enum RequestFilter {
    ErrorPages(Arc<ErrorPages>),
    Addresses(Arc<Addresses>),
    Maintenance(Maintenance),
    RateLimits(Arc<RateLimits>),
    Cors(Cors),
    Redirects(Redirects),
    Respond(Respond),
    ApiKeys(Arc<ApiKeys>),
    BasicAuth(Arc<BasicAuth>),
    Jwt(Arc<Jwt>),
    ForwardAuth(Arc<ForwardAuth>),
    Rewrite(Rewrites),
    RequestHeaders(RequestHeaders),
    Faults(Faults),
    Mirror(Arc<Mirror>),
    ResponseHeaders(ResponseHeaders),
    Compression(Arc<Compression>),
}

impl RequestFilter {
    pub fn kind(&self) -> Kind {
        match self {
            Self::ErrorPages(_) => Kind::ErrorPages,
            Self::Addresses(_) => Kind::Addresses,
            Self::Maintenance(_) => Kind::Maintenance,
            Self::RateLimits(_) => Kind::RateLimits,
            Self::Cors(_) => Kind::Cors,
            Self::Redirects(_) => Kind::Redirects,
            Self::Respond(_) => Kind::Respond,
            Self::ApiKeys(_) => Kind::ApiKeys,
            Self::BasicAuth(_) => Kind::BasicAuth,
            Self::Jwt(_) => Kind::Jwt,
            Self::ForwardAuth(_) => Kind::ForwardAuth,
            Self::Rewrite(_) => Kind::Rewrite,
            Self::RequestHeaders(_) => Kind::RequestHeaders,
            Self::Faults(_) => Kind::Faults,
            Self::Mirror(_) => Kind::Mirror,
            Self::ResponseHeaders(_) => Kind::ResponseHeaders,
            Self::Compression(_) => Kind::Compression,
        }
    }

    fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        match self {
            Self::ErrorPages(settings) => pages::decide(settings, asked, changes),
            Self::Addresses(addresses) => addresses.decide(asked),
            Self::Maintenance(maintenance) => maintenance.decide(asked, changes),
            Self::RateLimits(limits) => limits.decide(asked, changes),
            Self::Cors(cors) => cors.decide(asked, changes),
            Self::Redirects(redirects) => redirects.decide(asked, changes),
            Self::Respond(respond) => respond.decide(changes),
            Self::ApiKeys(keys) => keys.decide(asked, changes),
            Self::BasicAuth(basic) => basic.decide(asked, changes),
            Self::Jwt(jwt) => jwt.decide(asked, changes),
            Self::ForwardAuth(forward) => forward.decide(asked),
            Self::Rewrite(rewrite) => rewrite.decide(asked, changes),
            Self::RequestHeaders(headers) => headers.decide(asked, changes),
            Self::Faults(faults) => faults.decide(asked, changes),
            Self::Mirror(mirror) => mirror.decide(asked, changes),
            Self::ResponseHeaders(headers) => headers.decide(asked, changes),
            Self::Compression(compression) => compression.decide(asked, changes),
        }
    }

    /// What it is set to, for operators.
    pub fn describe(&self) -> String {
        match self {
            Self::ErrorPages(settings) => pages::describe(settings),
            Self::Addresses(addresses) => addresses.describe(),
            Self::Maintenance(maintenance) => maintenance.describe(),
            Self::RateLimits(limits) => limits.describe(),
            Self::Cors(cors) => cors.describe(),
            Self::Redirects(redirects) => redirects.describe(),
            Self::Respond(respond) => respond.describe(),
            Self::ApiKeys(keys) => keys.describe(),
            Self::BasicAuth(basic) => basic.describe(),
            Self::Jwt(jwt) => jwt.describe(),
            Self::ForwardAuth(forward) => forward.describe(),
            Self::Rewrite(rewrite) => rewrite.describe(),
            Self::RequestHeaders(headers) => headers.describe(),
            Self::Faults(faults) => faults.describe(),
            Self::Mirror(mirror) => mirror.describe(),
            Self::ResponseHeaders(headers) => headers.describe(),
            Self::Compression(compression) => compression.describe(),
        }
    }
}

/// An app's filters, compiled.
#[derive(Debug)]
pub struct Filters {
    settings: Arc<Settings>,
    /// In the order in which they act.
    pub request: Box<[RequestFilter]>,
    /// Taken out of every request: what a filter says in these, no client can.
    pub request_strips: Names,
    /// Fields that are not there before the filters that say who the client is have decided, whatever the client
    /// writes into them: what matches and counting go by.
    pub told: Names,
    /// Taken out of every response of an endpoint.
    pub response_strips: Names,
    /// Queries hold secrets, which the access log leaves out.
    pub hides_query: bool,
    pub metrics: Arc<FilterMetrics>,
}

/// How far a request has come in its app's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To its end.
    Passed,
    Refused(Reason),
    /// The filter at this place has to be waited for.
    Waits(usize),
}

impl Filters {
    /// Asks the filters from the one at `from` on.
    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes, from: usize) -> Step {
        for (at, filter) in self.request.iter().enumerate().skip(from) {
            let decision = filter.decide(asked, changes);
            self.count(filter.kind(), decision, asked.worker);
            match decision {
                Decision::Pass => {}
                Decision::Refuse(reason) => return Step::Refused(reason),
                Decision::Wait => return Step::Waits(at),
            }
        }
        Step::Passed
    }

    /// What was decided at last.
    pub fn count(&self, kind: Kind, decision: Decision, worker: usize) {
        let cells = self.metrics.cells(worker);
        match decision {
            Decision::Pass => cells.passed(kind),
            Decision::Refuse(_) => cells.refused(kind),
            Decision::Wait => {}
        }
    }
}

impl Filters {
    /// Whether they were compiled from these very settings.
    pub fn are_of(&self, settings: &Arc<Settings>) -> bool {
        Arc::ptr_eq(&self.settings, settings) || self.settings == *settings
    }

    pub fn error_pages(&self) -> Option<&Arc<ErrorPages>> {
        self.find(|filter| match filter {
            RequestFilter::ErrorPages(pages) => Some(pages),
            _ => None,
        })
    }

    pub fn rate_limits(&self) -> Option<&Arc<RateLimits>> {
        self.find(|filter| match filter {
            RequestFilter::RateLimits(limits) => Some(limits),
            _ => None,
        })
    }

    pub fn mirror(&self) -> Option<&Arc<Mirror>> {
        self.find(|filter| match filter {
            RequestFilter::Mirror(mirror) => Some(mirror),
            _ => None,
        })
    }

    pub fn compression(&self) -> Option<&Arc<Compression>> {
        self.find(|filter| match filter {
            RequestFilter::Compression(compression) => Some(compression),
            _ => None,
        })
    }

    fn find<'f, T>(&'f self, of: impl Fn(&'f RequestFilter) -> Option<&'f T>) -> Option<&'f T> {
        self.request.iter().find_map(of)
    }

    /// What is wrong with files as they are now.
    pub fn problems(&self) -> Vec<String> {
        let of = |filter: &RequestFilter| match filter {
            RequestFilter::Addresses(addresses) => addresses.problems(),
            RequestFilter::ApiKeys(keys) => keys.problem().into_iter().collect(),
            RequestFilter::BasicAuth(basic) => basic.problem().into_iter().collect(),
            RequestFilter::Jwt(jwt) => jwt.problem().into_iter().collect(),
            _ => Vec::new(),
        };
        self.request.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests;
