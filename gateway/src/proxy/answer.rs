//! What the gateway says itself.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::date;
use super::facts::Facts;
use crate::listener::Hsts;
use crate::message::encode::{push_decimal, push_length};
use crate::message::http2::append_lines;
use crate::message::{Malformed, Method, Version};
use crate::reason::{Reason, phrase};

/// A status with its fields and a line of text.
#[derive(Debug)]
pub struct Answer {
    reason: Reason,
    body: String,
    /// Where to go instead: a whole URI.
    location: Option<Box<[u8]>>,
    /// Where a filter chose another than the reason's.
    status: u16,
    /// What filters add, as lines.
    lines: Vec<u8>,
    content_type: Cow<'static, str>,
    /// The rule that a malformed message breaks.
    detail: Option<Malformed>,
    /// Whether a filter has said when to ask again.
    has_retry_after: bool,
}

/// What is said where nobody wants it otherwise.
const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    /// The status, the reason code as a field and in a line of text, and for a malformed message the
    /// rule that it breaks.
    pub fn new(reason: Reason, detail: Option<Malformed>) -> Self {
        let status = reason.status();
        let mut body = text(status, reason);
        if let Some(detail) = detail {
            body.push_str(&format!("{detail}\n"));
        }
        Self {
            reason,
            body,
            location: None,
            status,
            lines: Vec::new(),
            content_type: Cow::Borrowed(TEXT),
            detail,
            has_retry_after: false,
        }
    }

    /// With what the filters of a request have to say in any response to it.
    pub fn of(mut self, facts: &Facts) -> Self {
        let Some(filtered) = &facts.filtered else { return self };
        self.lines = filtered.answer_lines().to_vec();
        if let Some(status) = filtered.status() {
            (self.status, self.body) = (status, text(status, self.reason));
        }
        self.has_retry_after = filtered.has_retry_after;
        if let Some(page) = &filtered.page {
            let detail = self.detail.map(|detail| detail.to_string());
            let id = std::str::from_utf8(&facts.id).unwrap_or_default();
            let rendered = page.render(self.status, self.reason, detail.as_deref(), id);
            (self.content_type, self.body) = (Cow::Borrowed(rendered.content_type), rendered.body);
        }
        if let Some(fixed) = &filtered.fixed {
            (self.content_type, self.body) =
                (Cow::Owned(fixed.content_type.to_string()), fixed.body.to_string());
        }
        self
    }

    /// Whether there is content at all (RFC 9110 section 15.3.5).
    fn has_content(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// Sends the client to `location`.
    pub fn at(self, location: Option<Box<[u8]>>) -> Self {
        Self { location, ..self }
    }

    /// What it says besides its length: name and value.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        // Probes decide within seconds; a client that asks again at once only adds to the load.
        let retry = (self.reason.status() == 503 && !self.has_retry_after).then_some(("Retry-After", "1"));
        let content = self.has_content().then_some(("Content-Type", &*self.content_type));
        content.into_iter().chain([("X-Sluice-Reason", self.reason.as_str())]).chain(retry)
    }

    /// The whole message, and how much of it is content.
    pub fn into_http1(self, facts: &Facts, hsts: Option<&Hsts>, keep_alive: bool) -> (Vec<u8>, u64) {
        let Facts { version, method, .. } = *facts;
        let status = self.status;
        let mut out = Vec::with_capacity(256 + self.body.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(u64::from(status), &mut out);
        out.push(b' ');
        out.extend_from_slice(phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.fields() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        date::push(&mut out);
        out.extend_from_slice(hsts.map_or(&[], |hsts| &hsts.line));
        if let Some(location) = &self.location {
            out.extend_from_slice(b"Location: ");
            out.extend_from_slice(location);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.lines);
        if self.has_content() {
            push_length(&mut out, self.body.len() as u64);
        }
        match (keep_alive, version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, _) => {}
        }
        out.extend_from_slice(b"\r\n");
        if method == Method::Head || !self.has_content() {
            return (out, 0);
        }
        out.extend_from_slice(self.body.as_bytes());
        (out, self.body.len() as u64)
    }

    /// Head and content; no content for HEAD and for gRPC, whose clients look at fields only.
    pub fn into_http2(self, facts: &Facts, hsts: Option<&Hsts>) -> (Response<()>, Bytes) {
        if facts.is_grpc {
            return (self.grpc(), Bytes::new());
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        let fields = response.headers_mut();
        for (name, value) in self.fields() {
            // What an operator wrote was checked to be a value.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            {
                fields.insert(name, value);
            }
        }
        fields.extend(date::value().map(|date| (header::DATE, date)));
        fields.extend(hsts.map(|hsts| (header::STRICT_TRANSPORT_SECURITY, hsts.value.clone())));
        let location = self.location.as_deref().and_then(|location| HeaderValue::from_bytes(location).ok());
        fields.extend(location.map(|location| (header::LOCATION, location)));
        // What filters write are lines that fields can be: parsed heads, and settings that were checked.
        if append_lines(&self.lines, fields).is_err() {
            tracing::warn!(reason = self.reason.as_str(), "an answer without all of its fields");
        }
        let is_empty = facts.method == Method::Head || !self.has_content();
        if self.has_content() {
            fields.insert(header::CONTENT_LENGTH, self.body.len().into());
        }
        let body = if is_empty { Bytes::new() } else { self.body.into() };
        (response, body)
    }

    /// A response that is only trailers, which is how gRPC reports an error before anything else was
    /// said (gRPC over HTTP/2, "Responses").
    fn grpc(&self) -> Response<()> {
        let mut response = Response::new(());
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert("x-sluice-reason", HeaderValue::from_static(self.reason.as_str()));
        fields.extend(grpc_status(self.reason));
        date::add(&mut response);
        response
    }
}

fn text(status: u16, reason: Reason) -> String {
    format!("{status} {}: {}\n", phrase(status), reason.as_str())
}

/// The fields that tell a gRPC client why its call failed.
pub fn grpc_status(reason: Reason) -> http::HeaderMap {
    let mut fields = http::HeaderMap::with_capacity(2);
    fields.insert("grpc-status", HeaderValue::from(grpc_code(reason)));
    fields.insert("grpc-message", HeaderValue::from_static(reason.as_str()));
    fields
}

/// As gRPC's "HTTP to gRPC Status Code Mapping" has it, and finer where we know more than the status
/// says: a timeout is `DEADLINE_EXCEEDED`, too large a head `RESOURCE_EXHAUSTED`, and a missing
/// endpoint `UNAVAILABLE`, which clients try again.
fn grpc_code(reason: Reason) -> u16 {
    const CANCELLED: u16 = 1;
    const UNKNOWN: u16 = 2;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match reason.status() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 501 | 505 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 => UNAVAILABLE,
        499 => CANCELLED,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_reason_and_the_broken_rule() {
        let mut facts = Facts::unknown(std::time::Instant::now(), [b'0'; 32], 0);
        let answer = Answer::new(Reason::BadRequest, Some(Malformed::HostCount));
        let (bytes, body) = answer.into_http1(&facts, None, false);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.contains("X-Sluice-Reason: bad_request\r\nDate: "), "{text}");
        assert!(text.contains("Connection: close\r\n") && text.contains("exactly one Host"), "{text}");
        assert!(body > 0);
        (facts.method, facts.version) = (Method::Head, Version::Http10);
        let answer = Answer::new(Reason::UnknownHost, None);
        let (bytes, body) = answer.into_http1(&facts, None, true);
        let head = String::from_utf8(bytes).unwrap();
        assert!(head.ends_with("\r\n\r\n") && head.contains("Connection: keep-alive\r\n"), "{head}");
        assert_eq!(body, 0);
    }

    #[test]
    fn every_reason_has_a_grpc_code_that_says_what_to_do() {
        assert_eq!(grpc_code(Reason::NoHealthyEndpoint), 14);
        assert_eq!(grpc_code(Reason::UpstreamTimeout), 4);
        assert_eq!(grpc_code(Reason::UnknownHost), 12);
    }
}
