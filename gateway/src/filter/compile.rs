//! An app's chain, made of its settings and of what its former one still holds.

use std::sync::Arc;

use topology::AppId;
use topology::filters::{ApiKeyPlace, Filters as Settings};

use super::{
    ApiKeys, BasicAuth, Compression, Cors, Faults, FilterMetrics, Filters, ForwardAuth, Maintenance, Mirror,
    RateLimits, Redirects, RequestFilter, RequestHeaders, Respond, ResponseHeaders, Rewrites, Sources, cors,
    headers,
};

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

/// A filter that goes on as it is while its settings do: its files are being watched already.
pub(super) trait Keeps: Sized {
    type Settings: PartialEq;

    fn among(filter: &RequestFilter) -> Option<&Arc<Self>>;

    fn settings(&self) -> &Self::Settings;

    /// `former`: of other settings, whose files are in force until the new ones can be read.
    fn compile(settings: &Self::Settings, former: Option<&Self>, with: Compiling<'_>) -> Self;
}

fn kept_or_new<F: Keeps>(settings: &F::Settings, with: Compiling<'_>) -> Arc<F> {
    let former = with.former.and_then(|former| former.find(F::among));
    match former {
        Some(former) if former.settings() == settings => former.clone(),
        _ => Arc::new(F::compile(settings, former.map(|former| &**former), with)),
    }
}

/// The chain of `settings`.
pub fn compile(settings: &Arc<Settings>, with: Compiling<'_>) -> Filters {
    let mut request = Vec::new();
    before_identity(settings, with, &mut request);
    identity(settings, with, &mut request);
    after_identity(settings, with, &mut request);
    debug_assert!(request.is_sorted_by_key(|filter| filter.kind() as usize), "they act in the order shown");
    let (into, out) = (settings.request_headers.as_ref(), settings.response_headers.as_ref());
    let ours = settings.cors.iter().flat_map(|_| cors::OURS);
    let place = settings.api_keys.as_ref().map(|keys| &keys.place);
    let metrics = with.former.map(|former| former.metrics.clone());
    Filters {
        settings: settings.clone(),
        request: request.into(),
        request_strips: headers::stripped(into).chain(identity_fields(settings)).collect(),
        told: settings.told().collect(),
        response_strips: headers::stripped(out).chain(ours).collect(),
        hides_query: matches!(place, Some(ApiKeyPlace::Query(_))),
        metrics: metrics.unwrap_or_else(|| Arc::new(FilterMetrics::new(with.workers))),
    }
}

/// Those that are asked before anybody has to say who he is.
fn before_identity(settings: &Settings, with: Compiling<'_>, request: &mut Vec<RequestFilter>) {
    request.extend(settings.error_pages.clone().map(RequestFilter::ErrorPages));
    let addresses = settings.addresses.as_ref();
    request.extend(addresses.map(|settings| RequestFilter::Addresses(kept_or_new(settings, with))));
    let maintenance = settings.maintenance.clone();
    request.extend(maintenance.map(|settings| RequestFilter::Maintenance(Maintenance(settings))));
    if !settings.rate_limits.is_empty() {
        let former = with.former.and_then(Filters::rate_limits);
        let former = former.map(|former| &**former);
        let limits = RateLimits::compile(&settings.rate_limits, former, with.workers);
        request.push(RequestFilter::RateLimits(Arc::new(limits)));
    }
    request.extend(settings.cors.as_ref().map(|cors| RequestFilter::Cors(Cors::compile(cors))));
    if !settings.redirects.is_empty() {
        request.push(RequestFilter::Redirects(Redirects(settings.redirects.clone().into())));
    }
    request.extend(settings.respond.clone().map(|settings| RequestFilter::Respond(Respond(settings))));
}

/// Those that say who the client is.
fn identity(settings: &Settings, with: Compiling<'_>, request: &mut Vec<RequestFilter>) {
    let (keys, basic, jwt) = (&settings.api_keys, &settings.basic_auth, &settings.jwt);
    request.extend(keys.as_ref().map(|settings| RequestFilter::ApiKeys(kept_or_new(settings, with))));
    request.extend(basic.as_ref().map(|settings| RequestFilter::BasicAuth(kept_or_new(settings, with))));
    request.extend(jwt.as_ref().map(|settings| RequestFilter::Jwt(kept_or_new(settings, with))));
    let forward = settings.forward_auth.as_ref().map(|forward| ForwardAuth::compile(forward, settings));
    request.extend(forward.map(RequestFilter::ForwardAuth));
}

/// Those that change what goes on.
fn after_identity(settings: &Settings, with: Compiling<'_>, request: &mut Vec<RequestFilter>) {
    request.extend(settings.rewrite.clone().map(|rewrite| RequestFilter::Rewrite(Rewrites(rewrite))));
    let (into, out) = (settings.request_headers.clone(), settings.response_headers.clone());
    request.extend(into.map(|edits| RequestFilter::RequestHeaders(RequestHeaders(edits))));
    if !settings.faults.is_empty() {
        request.push(RequestFilter::Faults(Faults(settings.faults.clone().into())));
    }
    request.extend(settings.mirror.as_ref().map(|settings| {
        let former = with.former.and_then(Filters::mirror).map(|former| &**former);
        RequestFilter::Mirror(Arc::new(Mirror::compile(settings, former, with.workers)))
    }));
    request.extend(out.map(|edits| RequestFilter::ResponseHeaders(ResponseHeaders(edits))));
    request.extend(settings.compression.as_ref().map(|settings| {
        let former = with.former.and_then(Filters::compression).map(|former| &**former);
        RequestFilter::Compression(Arc::new(Compression::compile(settings, former, with.workers)))
    }));
}

/// Fields in which endpoints are told who the client is, or in which it proves that to us: nothing of them
/// goes on as it came.
pub(super) fn identity_fields(settings: &Settings) -> impl Iterator<Item = &str> {
    let keys = settings.api_keys.iter().filter_map(ApiKeys::proof);
    let basic = settings.basic_auth.iter().map(|_| BasicAuth::PROOF);
    keys.chain(basic).chain(settings.told())
}

/// What is wrong with the files that `settings` name, for who wants to know before.
pub fn inspect(app: &AppId, settings: &Arc<Settings>, sources: &Sources) -> Vec<String> {
    compile(settings, Compiling { app, former: None, workers: 1, sources }).problems()
}
