//! What is known of a request at each stage of its way.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use topology::AppLimits;

use super::mirror::Copy;
use super::patience::Patience;
use super::screen::Undecided;
use super::sticky::Returning;
use crate::access_log::{Logging, is_plain};
use crate::filter::Filtered;
use crate::listener::Limits;
use crate::message::trace_context::TRACEPARENT_BYTES;
use crate::message::{FieldKind, Framing, Malformed, Method, RequestHead, Version, forwarded};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};
use crate::trace::Trace;
use crate::worker::TableHandle;
use crate::worker::request_ids::RequestId;

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// The one table that this request reads, from its first byte to its log line.
    pub table: Rc<TableHandle>,
    pub app: Arc<CompiledApp>,
    /// The position of the app's match that took it.
    pub taken: Option<usize>,
    /// What its endpoint is chosen by, where the app hashes.
    pub key: Option<u64>,
    pub heads: Heads,
    pub facts: Facts,
    /// A filter is waited for: there are no heads yet.
    pub undecided: Option<Box<Undecided>>,
    /// Of it, for somebody who is only tried.
    pub copy: Option<Box<Copy>>,
}

/// What an endpoint is sent, as it speaks one version or the other.
#[derive(Debug, Default)]
pub struct Heads {
    /// For endpoints that speak HTTP/1.1.
    pub http1: Vec<u8>,
    /// For endpoints that speak HTTP/2; absent where the app has none.
    pub http2: Option<Box<http::Request<()>>>,
}

impl Heads {
    /// Names another span as the caller's. There is one such field, ours: what the client sent is not passed
    /// on where requests are traced.
    pub fn retrace(&mut self, traceparent: &[u8; TRACEPARENT_BYTES]) {
        const START: &[u8] = b"\r\ntraceparent: ";
        let field = memchr::memmem::find(&self.http1, START).map(|at| at + START.len());
        if let Some(value) = field.and_then(|at| self.http1.get_mut(at..at + TRACEPARENT_BYTES)) {
            value.copy_from_slice(traceparent);
        }
        if let (Some(head), Ok(value)) = (&mut self.http2, http::HeaderValue::from_bytes(traceparent)) {
            head.headers_mut().insert("traceparent", value);
        }
    }
}

/// What is known of a request, whatever becomes of it.
#[derive(Debug)]
pub struct Facts {
    pub started: Instant,
    pub method: Method,
    pub version: Version,
    pub framing: Framing,
    /// Whether the connection may stay open: the client wants it and we are not draining.
    pub keep_alive: bool,
    /// The client asked for the connection to be closed, so it sends nothing more.
    pub is_last: bool,
    /// The client waits with its body for a 100.
    pub expects_continue: bool,
    /// The protocol that the client wants to leave HTTP for (RFC 9110 section 7.8, RFC 8441).
    pub upgrade: Option<Box<[u8]>>,
    /// What proves to a WebSocket client that we understood it (RFC 6455 section 4.2.2).
    pub accept: Option<Box<[u8]>>,
    pub is_grpc: bool,
    pub patience: Patience,
    pub body: BodyLimits,
    pub head_bytes: usize,
    pub id: RequestId,
    /// What filters change in its response; only where there are any.
    pub filtered: Option<Box<Filtered>>,
    /// Its client's session; only where the app is sticky.
    pub returning: Option<Box<Returning>>,
    /// Whether it leaves a line in the access log.
    pub logging: Logging,
    /// Whether the app's traffic is counted by path and client.
    pub is_counted: bool,
    /// Only where requests are traced.
    pub trace: Option<Box<Trace>>,
    /// Only where somebody will want to see it.
    pub log: Option<Box<LogFacts>>,
}

impl Facts {
    /// Of a request that could not be understood.
    pub fn unknown(started: Instant, id: RequestId, head_bytes: usize) -> Self {
        Self {
            started,
            method: Method::Other,
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            is_last: false,
            expects_continue: false,
            upgrade: None,
            accept: None,
            is_grpc: false,
            patience: Patience::DEFAULT,
            body: BodyLimits::default(),
            head_bytes,
            id,
            logging: Logging::Always,
            is_counted: false,
            trace: None,
            filtered: None,
            returning: None,
            log: None,
        }
    }

    /// Whether anybody is told of it, beside the counters.
    pub fn is_told(&self) -> bool {
        self.logging != Logging::Never || self.is_counted || self.trace.is_some()
    }

    /// The status of an answer of our own.
    pub fn status_of(&self, reason: Reason) -> u16 {
        self.filtered.as_ref().and_then(|filtered| filtered.status()).unwrap_or(reason.status())
    }

    /// Whether bytes follow the head that somebody has to read.
    pub fn has_body(&self) -> bool {
        self.framing.has_body()
    }
}

/// What of a body is taken, and how fast it has to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Of the request's, in bytes.
    pub max: u64,
    /// In bytes per second, of either body; 0: whatever its deadlines allow.
    pub min_rate: u32,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { max: u64::MAX, min_rate: 0 }
    }
}

impl BodyLimits {
    /// The stricter of what a listener and an app say. gRPC's messages come when there is something to
    /// say, so they have no rate.
    pub fn of(listener: &Limits, app: Option<&AppLimits>, is_grpc: bool) -> Self {
        let (mut max, mut min_rate) = (listener.max_body, listener.min_body_rate);
        if let Some(app) = app {
            max = max.min(app.max_body.unwrap_or(max));
            min_rate = min_rate.max(app.min_body_rate.unwrap_or(min_rate));
        }
        Self { max, min_rate: if is_grpc { 0 } else { min_rate } }
    }
}

/// A request that goes nowhere.
#[derive(Debug)]
pub struct Refusal {
    pub facts: Facts,
    pub reason: Reason,
    /// Says more than the reason; shown to the client.
    pub detail: Option<Malformed>,
    pub app: Option<Arc<CompiledApp>>,
    /// Where to go instead: a whole URI.
    pub location: Option<Box<[u8]>>,
}

/// What came of the last attempt.
#[derive(Debug)]
pub struct Outcome {
    pub endpoint: Arc<PooledEndpoint>,
    /// Whether the request went out on a kept connection, which may have been closed under it.
    pub is_reused: bool,
    pub retries: u32,
    /// When that attempt began.
    pub attempted: Instant,
    /// When this endpoint was asked: later than that where another one had been asked before it and was
    /// not waited for.
    pub asked: Instant,
    pub responded: Option<Instant>,
    /// Of the endpoint's response; 0 if there was none.
    pub status: u16,
    pub failure: Option<Reason>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Of the response's content.
    pub body_bytes: u64,
    /// HTTP was left: how long that lasted says nothing about requests.
    pub is_tunnel: bool,
}

impl Outcome {
    /// Of an attempt that begins now.
    pub fn of(endpoint: Arc<PooledEndpoint>, retries: u32) -> Self {
        let now = Instant::now();
        Self {
            endpoint,
            is_reused: false,
            retries,
            attempted: now,
            asked: now,
            responded: None,
            status: 0,
            failure: None,
            received_bytes: 0,
            sent_bytes: 0,
            body_bytes: 0,
            is_tunnel: false,
        }
    }
}

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    KeepAlive,
    /// Everything was said and read.
    Close,
    /// The client may still be sending: closing at once would reset the connection and could take our
    /// response with it (RFC 9112 section 9.6).
    Linger,
    /// The response is incomplete, and the client must not mistake it for a whole one.
    Abort,
}

/// What the access log shows of a request's head, copied because the head is gone when the line is written.
#[derive(Debug)]
pub struct LogFacts {
    text: Vec<u8>,
    /// Whether no byte of it needs an escape.
    pub is_plain: bool,
    method: usize,
    host: usize,
    target: usize,
    agent: usize,
    referer: usize,
    given: usize,
    /// Whom trusted peers name as the client.
    pub client: Option<IpAddr>,
}

impl LogFacts {
    /// `trusts` says whose word on earlier hops is believed; `None`: not even the peer's.
    pub fn of(request: &RequestHead, head: &[u8], trusts: Option<&dyn Fn(IpAddr) -> bool>) -> Self {
        let mut text = Vec::with_capacity(LOG_BYTES);
        let mut push = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            text.len()
        };
        let value = |kind| request.fields.first(kind).map_or(&[][..], |field| field.value.within(head));
        let method = push(request.method_name.within(head));
        let host = push(request.authority.within(head));
        let target = push(request.target.within(head));
        let agent = push(value(FieldKind::UserAgent));
        let referer = push(value(FieldKind::Referer));
        let given = push(if trusts.is_some() { value(FieldKind::XRequestId) } else { b"" });
        let client = trusts.and_then(|trusts| forwarded::client(request, head, trusts));
        let is_plain = is_plain(&text);
        Self { text, is_plain, method, host, target, agent, referer, given, client }
    }

    /// Takes the query out of the target: it holds a secret.
    pub fn hide_query(&mut self) {
        let Some(at) = memchr::memchr(b'?', self.target()) else { return };
        let query = self.host + at..self.target;
        let removed = query.len();
        self.text.drain(query);
        for end in [&mut self.target, &mut self.agent, &mut self.referer, &mut self.given] {
            *end -= removed;
        }
    }

    pub fn method(&self) -> &[u8] {
        &self.text[..self.method]
    }

    pub fn host(&self) -> &[u8] {
        &self.text[self.method..self.host]
    }

    pub fn target(&self) -> &[u8] {
        &self.text[self.host..self.target]
    }

    pub fn agent(&self) -> &[u8] {
        &self.text[self.target..self.agent]
    }

    pub fn referer(&self) -> &[u8] {
        &self.text[self.agent..self.referer]
    }

    /// The request's id as a trusted peer gave it; else empty.
    pub fn given_id(&self) -> &[u8] {
        &self.text[self.referer..self.given]
    }

    /// The name of the app's match that took the request; else empty.
    pub fn taken_by(&self) -> &[u8] {
        &self.text[self.given..]
    }

    /// A request is taken once.
    pub fn set_taken_by(&mut self, name: &str) {
        self.text.truncate(self.given);
        self.text.extend_from_slice(name.as_bytes());
    }
}

/// Method, host, a usual path and a browser's user agent.
const LOG_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_attempt_names_another_span_in_both_versions() {
        let (old, new) = ([b'1'; TRACEPARENT_BYTES], [b'2'; TRACEPARENT_BYTES]);
        let head = [&b"GET / HTTP/1.1\r\na: traceparent: x\r\ntraceparent: "[..], &old, b"\r\nb: c\r\n\r\n"]
            .concat();
        let wanted =
            [&b"GET / HTTP/1.1\r\na: traceparent: x\r\ntraceparent: "[..], &new, b"\r\nb: c\r\n\r\n"]
                .concat();
        let http2 = http::Request::builder().header("traceparent", "old").body(()).unwrap();
        let mut heads = Heads { http1: head, http2: Some(Box::new(http2)) };
        heads.retrace(&new);
        assert_eq!(heads.http1, wanted);
        assert_eq!(heads.http2.unwrap().headers()["traceparent"].as_bytes(), new);
        // Nothing is there, or not all of it.
        for head in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"x\r\ntraceparent: 1"] {
            let mut heads = Heads { http1: head.to_vec(), http2: None };
            heads.retrace(&new);
            assert_eq!(heads.http1, head);
        }
    }
}
