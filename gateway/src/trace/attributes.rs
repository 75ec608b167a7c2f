//! What spans say, by OpenTelemetry's semantic conventions for HTTP (stable since 1.23.0).

use super::otlp::Attributes;
use super::span::{Attempted, Finished};
use crate::message::Version;
use crate::reason::Reason;

/// The methods that the conventions know; any other is `_OTHER`, so that a client cannot invent names.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// A span's name. A route has no name here but its app, which is an attribute.
pub fn name(method: &[u8]) -> &'static str {
    let known = METHODS.into_iter().find(|known| *known == method);
    known.and_then(|method| std::str::from_utf8(method).ok()).unwrap_or("HTTP")
}

pub fn of_request(finished: &Finished, out: &mut Attributes<'_>) {
    method(&finished.method, out);
    out.text("url.scheme", if finished.is_tls { b"https" } else { b"http" });
    let (path, query) = split(&finished.target);
    out.text("url.path", path);
    if let Some(query) = query {
        out.text("url.query", query);
    }
    server(&finished.host, out);
    out.text("client.address", finished.client.to_string().as_bytes());
    out.text("network.peer.address", finished.peer.ip().to_string().as_bytes());
    out.number("network.peer.port", i64::from(finished.peer.port()));
    out.text("network.protocol.version", protocol(finished.version));
    if !finished.agent.is_empty() {
        out.text("user_agent.original", &finished.agent);
    }
    outcome(finished.status, finished.reason, 500, out);
    if let Some(app) = &finished.app {
        out.text("sluice.app", app.as_bytes());
    }
    if let Some(reason) = finished.reason {
        out.text("sluice.reason", reason.as_str().as_bytes());
    }
}

pub fn of_attempt(finished: &Finished, number: usize, attempt: &Attempted, out: &mut Attributes<'_>) {
    let endpoint = &attempt.endpoint;
    method(&finished.method, out);
    let (path, _) = split(&finished.target);
    // Without the query, which may hold what only the endpoint is to know.
    let scheme = if endpoint.manner.tls.is_some() { "https" } else { "http" };
    let mut url = format!("{scheme}://{}", endpoint.address).into_bytes();
    url.extend_from_slice(path);
    out.text("url.full", &url);
    out.text("server.address", endpoint.address.ip().to_string().as_bytes());
    out.number("server.port", i64::from(endpoint.address.port()));
    let is_http2 = endpoint.protocol == topology::Protocol::Http2;
    out.text("network.protocol.version", if is_http2 { b"2" } else { b"1.1" });
    if number > 0 {
        out.number("http.request.resend_count", number as i64);
    }
    // To a client a 4xx is an error too.
    outcome(attempt.status, attempt.failure, 400, out);
    out.text("sluice.version", endpoint.key.version.as_str().as_bytes());
    out.text("sluice.instance", endpoint.key.instance.as_str().as_bytes());
}

/// Whether a span with this outcome has failed.
pub fn is_error(status: u16, reason: Option<Reason>, errors_from: u16) -> bool {
    // A client that went away is its own doing, a redirect nobody's.
    let by_reason =
        reason.is_some_and(|reason| reason.status() >= errors_from && reason != Reason::ClientAbort);
    by_reason || status >= errors_from
}

fn method(method: &[u8], out: &mut Attributes<'_>) {
    if METHODS.contains(&method) {
        out.text("http.request.method", method);
    } else {
        out.text("http.request.method", b"_OTHER");
        out.text("http.request.method_original", method);
    }
}

fn outcome(status: u16, reason: Option<Reason>, errors_from: u16, out: &mut Attributes<'_>) {
    if status > 0 {
        out.number("http.response.status_code", i64::from(status));
    }
    match reason {
        Some(reason) if is_error(status, Some(reason), errors_from) => {
            out.text("error.type", reason.as_str().as_bytes());
        }
        _ if is_error(status, None, errors_from) => out.text("error.type", status.to_string().as_bytes()),
        _ => {}
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0",
        Version::Http11 => b"1.1",
        Version::Http2 => b"2",
    }
}

fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The host that was asked for, which may name a port.
fn server(host: &[u8], out: &mut Attributes<'_>) {
    if host.is_empty() {
        return;
    }
    let colon = host.iter().rposition(|byte| *byte == b':').filter(|_| !host.ends_with(b"]"));
    let (name, port) = colon.map_or((host, None), |at| (&host[..at], Some(&host[at + 1..])));
    out.text("server.address", name);
    let port = port.and_then(|port| std::str::from_utf8(port).ok()).and_then(|port| port.parse().ok());
    if let Some(port) = port {
        out.number("server.port", port);
    }
}
