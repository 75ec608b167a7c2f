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
//! what changes the request comes after all that could refuse it. `/v1/filters` shows it.
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
//! [`RequestFilter`] and a line in [`compile`]; a [`Reason`] if it refuses. State that must outlive a
//! change of the app (counters, caches, limits) is taken over from the former [`Filters`] where its
//! settings are the same. Files are opened through [`Sources`], which looks at them again every second.

pub mod addresses;
pub mod api_keys;
mod asked;
pub mod basic_auth;
mod changes;
pub mod compression;
mod cors;
mod faults;
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
mod rewrite;
mod scope;
pub mod sources;
mod template;

use std::sync::Arc;

use topology::AppId;
use topology::filters::{ApiKeyPlace, ErrorPages, Filters as Settings};

pub use addresses::Addresses;
pub use api_keys::ApiKeys;
pub use asked::{Asked, Found};
pub use basic_auth::BasicAuth;
pub use changes::{Changes, Filtered};
pub use compression::Compression;
pub use cors::Cors;
pub use faults::Faults;
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

/// What compiling needs besides an app.
#[derive(Debug, Clone, Copy)]
pub struct Compiling<'a> {
    pub app: &'a AppId,
    /// Of the app as it was.
    pub former: Option<&'a Filters>,
    /// How many workers count.
    pub workers: usize,
    pub sources: &'a Sources,
}

/// The chain of `settings`.
pub fn compile(settings: &Arc<Settings>, with: Compiling<'_>) -> Filters {
    let Compiling { app, former, workers, sources } = with;
    let mut request = Vec::new();
    request.extend(settings.error_pages.clone().map(RequestFilter::ErrorPages));
    if let Some(addresses) = &settings.addresses {
        let former = former.and_then(|former| {
            former.find(|filter| match filter {
                RequestFilter::Addresses(addresses) => Some(addresses),
                _ => None,
            })
        });
        request.push(RequestFilter::Addresses(Addresses::compile(addresses, former, app, sources)));
    }
    let maintenance = settings.maintenance.clone();
    request.extend(maintenance.map(|settings| RequestFilter::Maintenance(Maintenance(settings))));
    if !settings.rate_limits.is_empty() {
        let former = former.and_then(|former| {
            former.find(|filter| match filter {
                RequestFilter::RateLimits(limits) => Some(limits),
                _ => None,
            })
        });
        let limits = RateLimits::compile(&settings.rate_limits, former.map(|limits| &**limits), workers);
        request.push(RequestFilter::RateLimits(Arc::new(limits)));
    }
    request.extend(settings.cors.as_ref().map(|cors| RequestFilter::Cors(Cors::compile(cors))));
    if !settings.redirects.is_empty() {
        request.push(RequestFilter::Redirects(Redirects(settings.redirects.clone().into())));
    }
    compile_identity(settings, with, &mut request);
    request.extend(settings.rewrite.clone().map(|rewrite| RequestFilter::Rewrite(Rewrites(rewrite))));
    let (into, out) = (&settings.request_headers, &settings.response_headers);
    request.extend(into.clone().map(|edits| RequestFilter::RequestHeaders(RequestHeaders(edits))));
    if !settings.faults.is_empty() {
        request.push(RequestFilter::Faults(Faults(settings.faults.clone().into())));
    }
    request.extend(settings.mirror.as_ref().map(|settings| {
        let former = former.and_then(Filters::mirror);
        RequestFilter::Mirror(Arc::new(Mirror::compile(settings, former.map(|former| &**former), workers)))
    }));
    request.extend(out.clone().map(|edits| RequestFilter::ResponseHeaders(ResponseHeaders(edits))));
    request.extend(settings.compression.as_ref().map(|settings| {
        let former = former.and_then(Filters::compression);
        RequestFilter::Compression(Arc::new(Compression::compile(
            settings,
            former.map(|former| &**former),
            workers,
        )))
    }));
    debug_assert!(request.is_sorted_by_key(|filter| filter.kind() as usize), "they act in the order shown");
    Filters {
        settings: settings.clone(),
        request: request.into(),
        request_strips: headers::stripped(into.as_ref()).chain(identity_fields(settings)).collect(),
        told: told(settings).collect(),
        response_strips: headers::stripped(out.as_ref())
            .chain(settings.cors.iter().flat_map(|_| cors::OURS))
            .collect(),
        hides_query: settings
            .api_keys
            .as_ref()
            .is_some_and(|keys| matches!(keys.place, ApiKeyPlace::Query(_))),
        metrics: former
            .map_or_else(|| Arc::new(FilterMetrics::new(workers)), |former| former.metrics.clone()),
    }
}

/// Those that say who the client is.
fn compile_identity(settings: &Settings, with: Compiling<'_>, request: &mut Vec<RequestFilter>) {
    let Compiling { app, former, sources, .. } = with;
    if let Some(keys) = &settings.api_keys {
        let former = former.and_then(|former| {
            former.find(|filter| match filter {
                RequestFilter::ApiKeys(keys) => Some(keys),
                _ => None,
            })
        });
        request.push(RequestFilter::ApiKeys(ApiKeys::compile(keys, former, app, sources)));
    }
    if let Some(basic) = &settings.basic_auth {
        let former = former.and_then(|former| {
            former.find(|filter| match filter {
                RequestFilter::BasicAuth(basic) => Some(basic),
                _ => None,
            })
        });
        request.push(RequestFilter::BasicAuth(BasicAuth::compile(basic, former, app, sources)));
    }
    if let Some(jwt) = &settings.jwt {
        let former = former.and_then(|former| {
            former.find(|filter| match filter {
                RequestFilter::Jwt(jwt) => Some(jwt),
                _ => None,
            })
        });
        request.push(RequestFilter::Jwt(Jwt::compile(jwt, former, app, sources)));
    }
    let forward = settings.forward_auth.as_ref().map(|forward| ForwardAuth::compile(forward, settings));
    request.extend(forward.map(RequestFilter::ForwardAuth));
}

/// Fields in which endpoints are told who the client is.
fn told(settings: &Settings) -> impl Iterator<Item = &str> {
    let keys = settings.api_keys.iter().flat_map(ApiKeys::tells);
    let basic = settings.basic_auth.iter().flat_map(BasicAuth::tells);
    let jwt = settings.jwt.iter().flat_map(Jwt::tells);
    keys.chain(basic).chain(jwt).chain(settings.forward_auth.iter().flat_map(ForwardAuth::tells))
}

/// Those, and fields in which the client proves it to us: nothing of them goes on as it came.
fn identity_fields(settings: &Settings) -> impl Iterator<Item = &str> {
    let keys = settings.api_keys.iter().filter_map(ApiKeys::proof);
    let basic = settings.basic_auth.iter().filter_map(BasicAuth::proof);
    keys.chain(basic).chain(told(settings))
}

/// What is wrong with the files that `settings` name, for who wants to know before.
pub fn inspect(app: &AppId, settings: &Arc<Settings>) -> Vec<String> {
    let with = Compiling { app, former: None, workers: 1, sources: &Sources::default() };
    compile(settings, with).problems()
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
