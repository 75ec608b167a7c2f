//! What stands in front of every request: no page in a browser changes anything, and whoever asks is known and may.
//!
//! A page of any site can have its own name resolved to the loopback (DNS rebinding), and is then of one origin
//! with us. Its requests still carry that name in Host, and what changes something also an Origin.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;
use super::auth::{Authenticator, Denied, Identity, Peer, Role, Wish, is_open};
use super::problem::Problem;
use crate::metrics::AdminMetrics;

/// Who is let in, and to do what.
#[derive(Debug, Clone)]
pub struct Gate {
    pub auth: Arc<Authenticator>,
    pub metrics: Arc<AdminMetrics>,
    pub permits: fn(&Role, Wish<'_>) -> bool,
}

pub async fn check(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return gate.turn_away("nobody", &request, Denied::NoCredentials).into_response();
    };
    if let Some(why) = refusal(&peer, request.method(), request.headers()) {
        return gate.turn_away(&name_of(&peer), &request, Denied::Browser(why)).into_response();
    }
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let shown = request.headers().get(header::AUTHORIZATION);
    let identity = match gate.auth.authenticate(&peer, shown) {
        Ok(identity) => identity,
        Err(denied) => return gate.turn_away(&name_of(&peer), &request, denied).into_response(),
    };
    let app = only_app(&request);
    let wish = Wish { method: request.method(), path: request.uri().path(), app: app.as_deref() };
    if !(gate.permits)(&identity.role, wish) {
        return gate.turn_away(&identity.name, &request, Denied::Role).into_response();
    }
    let action = action(&request).map(|action| (action, identity.name.clone()));
    let role = identity.role.clone();
    request.extensions_mut().insert(identity);
    let response = next.run(request).await;
    let status = response.status().as_u16();
    gate.metrics.request(&role, status);
    if let Some((action, author)) = action {
        tracing::info!(target: "sluice::audit", author = &*author, role = role.as_str(), action, status, "admin action");
    }
    response
}

/// What is done otherwise than to the configuration, which tells more of what becomes of it.
fn action(request: &Request) -> Option<String> {
    let (method, path) = (request.method(), request.uri().path());
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let is_told = path.starts_with("/v1/config/") || path == "/v1/rollback";
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    (!reads && !is_told).then(|| format!("{method} {path}{query}").chars().take(256).collect())
}

/// The one `app` of the query. Two of them are none.
fn only_app(request: &Request) -> Option<String> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
    let mut apps = pairs.into_iter().filter(|(name, _)| name == "app").map(|(_, app)| app);
    apps.next().filter(|_| apps.next().is_none())
}

fn name_of(peer: &Peer) -> String {
    match peer {
        Peer::Loopback(address) | Peer::Tls { address, certificate: None } => address.to_string(),
        Peer::Tls { address, certificate: Some(name) } => format!("{name} at {address}"),
        Peer::Local { user } => format!("unix:{user}"),
    }
}

impl Gate {
    fn turn_away(&self, who: &str, request: &Request, denied: Denied) -> Problem {
        self.deny(who, denied, &format!("{} {}", request.method(), request.uri().path()))
    }

    /// Somebody known wants what that role does not permit.
    pub fn refuse(&self, identity: &Identity, denied: Denied, what: &str) -> Problem {
        self.deny(&identity.name, denied, what)
    }

    fn deny(&self, who: &str, denied: Denied, what: &str) -> Problem {
        self.metrics.denied(denied);
        // Whoever is locked out could fill the log.
        if !matches!(denied, Denied::LockedOut { .. }) {
            let what: String = what.chars().take(256).collect();
            tracing::warn!(target: "sluice::audit", who, reason = denied.reason(), what, "admin request refused");
        }
        denied.into()
    }
}

impl AdminState {
    /// As [`Gate::refuse`].
    pub fn refuse(&self, identity: &Identity, denied: Denied, what: &str) -> Problem {
        self.gate.refuse(identity, denied, what)
    }
}

fn refusal(peer: &Peer, method: &Method, fields: &HeaderMap) -> Option<&'static str> {
    // Browsers always send one, some health checkers do not. They reach no Unix socket, and TLS proves a name.
    let host = fields.get(header::HOST).filter(|_| matches!(peer, Peer::Loopback(_)));
    if host.is_some_and(|host| !host.to_str().is_ok_and(is_loopback)) {
        return Some("the Host field must name the loopback: localhost, 127.0.0.1 or [::1]");
    }
    let is_from_page = fields.contains_key(header::ORIGIN) && method != Method::GET && method != Method::HEAD;
    is_from_page.then_some("pages in a browser change nothing here")
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Peer {
        Peer::Loopback("127.0.0.1".parse().unwrap())
    }

    fn fields(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, host.parse().unwrap());
        fields.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
        fields
    }

    #[test]
    fn names_that_are_not_the_loopbacks_are_refused() {
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "127.8.9.1", "[::1]:9901"] {
            assert_eq!(refusal(&loopback(), &Method::GET, &fields(host, None)), None, "{host}");
        }
        for host in ["evil.test:9901", "localhost.evil.test", "10.0.0.1", "", "127.0.0.1.evil.test", "[::2]"]
        {
            assert!(refusal(&loopback(), &Method::GET, &fields(host, None)).is_some(), "{host}");
        }
        assert_eq!(refusal(&loopback(), &Method::GET, &HeaderMap::new()), None);
    }

    #[test]
    fn pages_change_nothing_even_under_our_own_name() {
        let from_page = fields("localhost:9901", Some("http://localhost:9901"));
        assert!(refusal(&loopback(), &Method::DELETE, &from_page).is_some());
        assert_eq!(refusal(&loopback(), &Method::GET, &from_page), None);
        assert_eq!(refusal(&loopback(), &Method::DELETE, &fields("localhost:9901", None)), None);
        let over_tls = Peer::Tls { address: "192.0.2.1".parse().unwrap(), certificate: None };
        assert_eq!(refusal(&over_tls, &Method::DELETE, &fields("gw-1.example.com", None)), None);
        let from_page = fields("gw-1.example.com", Some("https://evil.test"));
        assert!(refusal(&over_tls, &Method::DELETE, &from_page).is_some());
    }
}
