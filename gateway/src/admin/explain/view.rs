//! The shape of an explanation, as `/v1/explain` shows it.

use std::collections::BTreeMap;

use serde::Serialize;
use topology::AppId;

use super::question::Question;
use crate::admin::views::{BalanceView, EndpointView};
use crate::filter::Changes;
use crate::reason::Reason;
use crate::table::RoutingTable;

/// What becomes of one request, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Of the table that was asked.
    pub revision: u64,
    /// Whether the request means anything, so that the table was asked at all.
    #[serde(skip)]
    pub is_read: bool,
    pub request: RequestView,
    pub outcome: Outcome,
    /// Patterns that cover the host, the most specific first.
    pub hosts: Vec<HostStep>,
    /// Routes of the host that was chosen, in the order in which they are tried, and of less specific ones those that
    /// would have taken the request.
    pub routes: Vec<RouteStep>,
    /// Who gets the request, or refuses it.
    pub app: Option<String>,
    /// Why the spec that its owner wrote is not in force on this gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    pub matches: Vec<MatchStep>,
    /// In the order in which they act.
    pub filters: Vec<FilterStep>,
    pub balance: Option<ChoiceView>,
    /// Of a sticky app: what the request's cookie says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
    /// Where its endpoint is looked for, in this order where one has nobody.
    pub versions: Vec<VersionView>,
    pub policies: Option<PoliciesView>,
}

/// The request, as routing sees it.
#[derive(Debug, Serialize)]
pub struct RequestView {
    pub method: String,
    /// Normalized.
    pub host: String,
    /// Normalized, without the query.
    pub path: String,
    pub listener: String,
    pub is_tls: bool,
    pub client: String,
    /// Whether the client is one of `trusted_proxies`, whose forwarding fields are believed.
    pub is_trusted_proxy: bool,
}

/// What the client would be answered, or who would be asked.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Whether it goes on to an endpoint.
    pub is_forwarded: bool,
    /// Why not; the word in metrics and logs.
    pub reason: Option<&'static str>,
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where the client is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What the endpoint is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The Host that it is sent, where a filter says another than the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_host: Option<String>,
    /// What only a real request brings about; with anything here, it may come out otherwise.
    pub depends_on: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct HostStep {
    pub pattern: String,
    /// `chosen`, `other_listener` or `less_specific`.
    pub verdict: &'static str,
}

#[derive(Debug, Serialize)]
pub struct RouteStep {
    pub host: String,
    pub path: String,
    pub app: String,
    /// `chosen`, `other_path`, `other_listener`, `shorter`, `claimed_later` or `less_specific_host`.
    pub verdict: &'static str,
    pub why: String,
}

#[derive(Debug, Serialize)]
pub struct MatchStep {
    pub name: String,
    /// `chosen`, `not_met` or `not_reached`.
    pub verdict: &'static str,
    /// The first condition that does not hold.
    pub unmet: Option<String>,
    /// Where its requests go; empty: where the others go.
    pub effect: String,
}

#[derive(Debug, Serialize)]
pub struct FilterStep {
    pub filter: &'static str,
    pub phase: &'static str,
    pub settings: String,
    pub effect: String,
}

/// How an endpoint is chosen among candidates.
#[derive(Debug, Serialize)]
pub struct ChoiceView {
    #[serde(flatten)]
    pub policy: BalanceView,
    /// Where a key decides: whether the request has it. Without, endpoints take turns.
    pub has_key: Option<bool>,
    /// The candidate whose key it is, as long as that has room.
    pub prefers: Option<String>,
    /// Whether all endpoints are candidates because fewer are healthy than the app's `panic_threshold` asks for.
    pub panics: bool,
    /// Whether backups are asked beside the others because fewer of those are healthy than it asks for.
    pub backups_help: bool,
}

/// Whether a request comes back to an endpoint, by its cookie.
#[derive(Debug, Serialize)]
pub struct SessionView {
    pub cookie: String,
    /// The endpoint that it names.
    pub endpoint: Option<String>,
    /// Whether it goes there, as long as that has room. What answers names itself otherwise.
    pub is_kept: bool,
    pub why: String,
}

/// The endpoints of one version, or of all where nothing splits them.
#[derive(Debug, Serialize)]
pub struct VersionView {
    /// `None`: all versions.
    pub version: Option<String>,
    /// Of its requests, where a split says.
    pub share: Option<u16>,
    pub percent: Option<f64>,
    /// Only asked where those before have nobody.
    pub stands_in: bool,
    /// How many are asked first.
    pub eligible: usize,
    /// By state.
    pub states: BTreeMap<&'static str, usize>,
    pub endpoints: Vec<CandidateView>,
    pub endpoints_truncated: bool,
}

#[derive(Debug, Serialize)]
pub struct CandidateView {
    /// Whether it may be picked at first.
    pub is_candidate: bool,
    /// When it is asked: `first`, or where those have nobody: `other_zones`, then `backups`. Absent: it is out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'static str>,
    /// Of its version's requests, where it is a candidate: by weight, as far as zones and slow starts leave it.
    pub percent: f64,
    #[serde(flatten)]
    pub endpoint: EndpointView,
}

/// What holds for the request on its way. Times in seconds, sizes in bytes; absent where there is none.
#[derive(Debug, Serialize)]
pub struct PoliciesView {
    pub timeouts: BTreeMap<&'static str, f64>,
    pub limits: BTreeMap<&'static str, u64>,
    pub tenant: String,
    pub attempts: u8,
    pub retry_on: Vec<&'static str>,
    /// Whether its method may be sent twice.
    pub is_idempotent: bool,
    pub hedge_after: Option<f64>,
    /// How endpoints are spoken to: `http1`, `h2`.
    pub upstream_protocols: Vec<&'static str>,
    /// The profile of TLS to endpoints, and whom they must prove to be.
    pub upstream_tls: Option<UpstreamTlsView>,
    pub proxy_protocol: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct UpstreamTlsView {
    pub profile: String,
    pub server_name: Option<String>,
}

impl Explanation {
    pub(super) fn begin(revision: u64, question: &Question) -> Self {
        let method = question.head.split(|byte| *byte == b' ').next().unwrap_or_default();
        let request = RequestView {
            method: String::from_utf8_lossy(method).into_owned(),
            host: String::new(),
            path: String::new(),
            listener: question.doorway.name.to_string(),
            is_tls: question.doorway.is_tls,
            client: question.client.to_string(),
            is_trusted_proxy: question.is_trusted,
        };
        Self {
            revision,
            is_read: false,
            request,
            outcome: Outcome::default(),
            hosts: Vec::new(),
            routes: Vec::new(),
            app: None,
            rejection: None,
            matches: Vec::new(),
            filters: Vec::new(),
            balance: None,
            session: None,
            versions: Vec::new(),
            policies: None,
        }
    }
}

impl Explanation {
    /// What of it is `app`'s, for who may know of no other one; `None`: nothing is. A request that means nothing whoever it
    /// was for is told as it is.
    pub(super) fn only(mut self, app: &AppId, table: &RoutingTable) -> Option<Self> {
        if self.app.as_deref() != Some(app.as_str()) {
            return (!self.is_read).then_some(self);
        }
        let hosts = table.app(app).map(|app| app.hosts()).unwrap_or_default();
        self.hosts.retain(|step| hosts.iter().any(|host| host.to_string() == step.pattern));
        self.routes.retain(|step| step.app == app.as_str());
        Some(self)
    }
}

impl Outcome {
    pub(super) fn refuse(&mut self, reason: Reason) {
        (self.reason, self.status) = (Some(reason.as_str()), Some(reason.status()));
    }

    /// `target`: what the client asks for.
    pub(super) fn forward(&mut self, changes: &Changes, target: &[u8]) {
        self.is_forwarded = true;
        let target = changes.target.as_deref().unwrap_or(target);
        self.target = Some(String::from_utf8_lossy(target).into_owned());
        self.sent_host = changes.host.as_ref().map(ToString::to_string);
    }
}
