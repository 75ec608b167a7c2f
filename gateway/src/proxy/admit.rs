//! Whether an app takes a request: what of the connection, the method and the app itself stands in its way. Pure, so
//! that what is explained is what happens.

use super::client::Origin;
use super::secure::{ACME_CHALLENGES, https_location, wants_https};
use crate::listener::HttpsPolicy;
use crate::message::{Framing, Method, RequestHead};
use crate::reason::Reason;
use crate::table::{CompiledApp, CompiledMatch, Match, Upstream, Way};

/// What of a connection decides over its requests.
#[derive(Debug, Clone, Copy)]
pub struct Approach<'a> {
    pub https: &'a HttpsPolicy,
    pub is_tls: bool,
    /// Whether the peer is one of `trusted_proxies`.
    pub is_trusted: bool,
    /// Whether the client has proved who it is.
    pub has_certificate: bool,
}

impl Origin {
    pub fn approach(&self) -> Approach<'_> {
        Approach {
            https: &self.listener.https,
            is_tls: self.listener.is_tls(),
            is_trusted: self.is_trusted,
            has_certificate: self.identity.is_some(),
        }
    }
}

/// Why, and where to go instead: a whole URI.
pub type Denied = (Reason, Option<Box<[u8]>>);

/// What of a request's method stands in its way. `hops`: how many are left, where they are limited.
pub fn unfit(parsed: &RequestHead, hops: Option<u64>, found: &Match<'_>) -> Option<Reason> {
    let is_connect = parsed.method == Method::Connect;
    if is_connect && !matches!(found, Match::App(app) if app.spec.connect) {
        return Some(Reason::MethodNotSupported);
    }
    if hops == Some(0) {
        // We are its final recipient, and neither echo requests nor have options of our own.
        return Some(Reason::MethodNotSupported);
    }
    // RFC 9110 section 9.3.6: where such a body ended, the tunnel would begin.
    (is_connect && parsed.framing.has_body()).then_some(Reason::BadRequest)
}

/// Whether the app takes a request of this client that was routed to it by `host` and `path`. Filters are
/// asked next.
pub fn admit(
    approach: Approach<'_>,
    app: &CompiledApp,
    taken: Option<usize>,
    parsed: &RequestHead,
    head: &[u8],
    (host, path): (&str, &[u8]),
) -> Result<(), Denied> {
    if wants_https(approach, app, parsed, head) && !path.starts_with(ACME_CHALLENGES) {
        // Without a host there is no place to send the client to.
        return Err(match https_location(host, approach.https.port, parsed, head) {
            Some(location) => (Reason::HttpsRequired, Some(location)),
            None => (Reason::UnknownHost, None),
        });
    }
    if app.spec.requires_client_certificate && !approach.has_certificate {
        return Err((Reason::ClientCertificateRequired, None));
    }
    let refuses = |entry: &CompiledMatch| matches!(entry.way, Way::Nowhere);
    if taken.and_then(|taken| app.match_at(taken)).is_some_and(refuses) {
        return Err((Reason::MatchRefused, None));
    }
    Ok(())
}

/// What is missing to carry the request out. `max_body`: of its body, in bytes.
pub fn lacks(
    app: &CompiledApp,
    taken: Option<usize>,
    parsed: &RequestHead,
    head: &[u8],
    max_body: u64,
) -> Option<Reason> {
    let reason = if matches!(app.upstream, Upstream::Unknown) {
        Reason::UpstreamTlsUnknown
    } else if app.way(taken).0.is_empty() {
        Reason::NoEndpoint
    } else if parsed.upgrade.is_some_and(|protocol| !is_allowed(app, protocol.within(head))) {
        Reason::UpgradeNotAllowed
    } else if matches!(parsed.framing, Framing::Length(length) if length > max_body) {
        Reason::BodyTooLarge
    } else {
        return None;
    };
    Some(reason)
}

/// Whether the app lets a client leave HTTP for `protocol`, which may have a version after a slash.
fn is_allowed(app: &CompiledApp, protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    app.spec.upgrades.as_ref().is_none_or(|allowed| {
        allowed.iter().any(|known| {
            known.as_bytes().eq_ignore_ascii_case(protocol) || known.as_bytes().eq_ignore_ascii_case(name)
        })
    })
}
