//! Heads for the next hop: what was received, less what ends here, plus what we know better.

use std::io::Write;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::list_items;
use super::trace_context::TRACEPARENT_BYTES;
use super::{
    Field, FieldKind, Fields, Framing, Method, RequestEdits, RequestHead, ResponseEdits, ResponseHead, Span,
    Version,
};

/// What a request's forwarding fields say of the hop before us.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    pub peer: IpAddr,
    /// Whether `peer` is one of `trusted_proxies`, so that what it says of earlier hops is believed.
    pub is_trusted: bool,
    pub is_tls: bool,
    /// Sent as Host where the request named none (HTTP/1.0).
    pub local_authority: &'a str,
    /// Our name in Via (RFC 9110 section 7.6.3).
    pub pseudonym: &'a str,
    /// For X-Request-Id, unless a trusted peer gave one.
    pub request_id: &'a str,
    /// Field lines that say what certificate the client proved to have.
    pub identity: Option<&'a [u8]>,
    /// `None`: requests are not traced, and what the client says of it passes through.
    pub trace: Option<TraceHop>,
    /// What the app's filters change.
    pub edits: Option<&'a RequestEdits<'a>>,
}

/// What the endpoint is told of the trace that a request belongs to.
#[derive(Debug, Clone, Copy)]
pub struct TraceHop {
    pub traceparent: [u8; TRACEPARENT_BYTES],
    /// Whether the client's `tracestate` goes with it.
    pub keeps_state: bool,
}

/// Appends the head that is sent upstream, always as HTTP/1.1.
pub fn request(request: &RequestHead, head: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
    request_line(request, head, hop, out);
    let is_absolute = request.target != request.path_and_query;
    let has_other = hop.edits.is_some_and(|edits| edits.host.is_some());
    let host_kept = !is_absolute && !has_other && request.fields.first(FieldKind::Host).is_some();
    if !host_kept {
        push_field(out, b"Host: ", sent_host(request, head, hop));
    }
    let names = names_fields(&request.fields, head);
    copy_fields(&request.fields, head, out, |field| match field.kind {
        FieldKind::Host => host_kept,
        _ => is_sent_on(field, request, head, hop, names),
    });
    forwarding_fields(request, head, hop, out);
    out.extend_from_slice(hop.edits.map_or(&[], |edits| edits.added));
    connection_fields(request, head, hop, out);
    match request.framing {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The host that the endpoint is asked for.
pub(super) fn sent_host<'h>(request: &RequestHead, head: &'h [u8], hop: &Hop<'h>) -> &'h [u8] {
    let authority = match request.authority.within(head) {
        b"" => hop.local_authority.as_bytes(),
        authority => authority,
    };
    hop.edits.and_then(|edits| edits.host).unwrap_or(authority)
}

/// The path and query that the endpoint is asked for, as far as it is said.
pub(super) fn sent_target<'h>(request: &RequestHead, head: &'h [u8], hop: &Hop<'h>) -> &'h [u8] {
    hop.edits.and_then(|edits| edits.target).unwrap_or_else(|| request.path_and_query.within(head))
}

/// Whether a request's field goes to the endpoint, in whatever version. `names`: Connection names fields.
pub(super) fn is_sent_on(
    field: &Field,
    request: &RequestHead,
    head: &[u8],
    hop: &Hop<'_>,
    names: bool,
) -> bool {
    if hop.edits.is_some_and(|edits| edits.strips.contains(field.name.within(head))) {
        return false;
    }
    match field.kind {
        FieldKind::XForwardedFor | FieldKind::Forwarded | FieldKind::Imitation => false,
        FieldKind::XForwardedProto
        | FieldKind::XForwardedHost
        | FieldKind::XRequestId
        | FieldKind::ClientClaim => hop.is_trusted,
        // Two would contradict each other: ours is what this connection proved.
        FieldKind::ClientCertificate => hop.is_trusted && hop.identity.is_none(),
        FieldKind::Traceparent if hop.trace.is_some() => false,
        FieldKind::Tracestate if hop.trace.is_some_and(|trace| !trace.keeps_state) => false,
        FieldKind::Expect => request.expects_continue,
        kind if kind.is_hop_by_hop() => false,
        _ => !(names && request.connection_names(head, field.name.within(head))),
    }
}

/// What the endpoint may do with this connection: leave HTTP, send trailers.
fn connection_fields(request: &RequestHead, head: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
    let takes_trailers = request.takes_trailers(head);
    match (request.upgrade, takes_trailers) {
        (None, false) => return,
        (None, true) => out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n"),
        (Some(_), true) => out.extend_from_slice(b"Connection: Upgrade, TE\r\nTE: trailers\r\n"),
        (Some(_), false) => out.extend_from_slice(b"Connection: Upgrade\r\n"),
    }
    let Some(protocol) = request.upgrade else { return };
    push_field(out, b"Upgrade: ", protocol.within(head));
    if request.version == Version::Http2 {
        // RFC 8441 section 5.1: HTTP/2 clients send none. It proves nothing, so any 16 bytes will do.
        let nonce: Vec<u8> = hop.request_id.bytes().step_by(2).take(16).collect();
        push_field(out, b"Sec-WebSocket-Key: ", STANDARD.encode(nonce).as_bytes());
    }
}

fn request_line(request: &RequestHead, head: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method_name.within(head));
    out.push(b' ');
    let path = sent_target(request, head, hop);
    match path {
        // RFC 9112 section 3.2.4.
        b"" if request.method == Method::Options => out.push(b'*'),
        [b'/', ..] | b"*" => {}
        _ => out.push(b'/'),
    }
    out.extend_from_slice(path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

pub(super) fn forwarding_fields(request: &RequestHead, head: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
    let fields = &request.fields;
    let authority = request.authority.within(head);
    let missing = |kind| !hop.is_trusted || fields.first(kind).is_none();
    let scheme: &[u8] = if hop.is_tls { b"https" } else { b"http" };

    out.extend_from_slice(b"X-Forwarded-For: ");
    push_earlier(fields, FieldKind::XForwardedFor, head, hop, out);
    push_ip(hop.peer, out);
    out.extend_from_slice(b"\r\n");
    if missing(FieldKind::XForwardedProto) {
        push_field(out, b"X-Forwarded-Proto: ", scheme);
    }
    if missing(FieldKind::XForwardedHost) && !authority.is_empty() {
        push_field(out, b"X-Forwarded-Host: ", authority);
    }
    // RFC 7239.
    out.extend_from_slice(b"Forwarded: ");
    push_earlier(fields, FieldKind::Forwarded, head, hop, out);
    out.extend_from_slice(b"for=");
    if hop.peer.is_ipv6() {
        out.extend_from_slice(b"\"[");
        push_ip(hop.peer, out);
        out.extend_from_slice(b"]\"");
    } else {
        push_ip(hop.peer, out);
    }
    if !authority.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(authority);
        out.push(b'"');
    }
    push_field(out, b";proto=", scheme);
    if missing(FieldKind::XRequestId) {
        push_field(out, b"X-Request-Id: ", hop.request_id.as_bytes());
    }
    let received: &[u8] = match request.version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
        Version::Http2 => b"Via: 2.0 ",
    };
    push_field(out, received, hop.pseudonym.as_bytes());
    out.extend_from_slice(hop.identity.unwrap_or_default());
    if let Some(trace) = &hop.trace {
        push_field(out, b"traceparent: ", &trace.traceparent);
    }
}

/// What a trusted hop said of the hops before it, in one line: many recipients read only one.
fn push_earlier(fields: &Fields, kind: FieldKind, head: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
    if !hop.is_trusted {
        return;
    }
    for field in
        fields.all(kind).filter(|field| field.value != Span { start: field.value.end, end: field.value.end })
    {
        out.extend_from_slice(field.value.within(head));
        out.extend_from_slice(b", ");
    }
}

/// How the body that follows a response's head is delimited downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiting {
    /// As it is: its length is announced, or the connection's close ends it, or there is none.
    Plain,
    Chunked,
}

/// What the downstream connection asks of a response's head.
#[derive(Debug, Clone, Copy)]
pub struct Downstream<'a> {
    pub version: Version,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
    /// A Strict-Transport-Security line, for responses that have none (RFC 6797).
    pub hsts: Option<&'a [u8]>,
    /// Appends a Date line, for responses that have none (RFC 9110 section 6.6.1).
    pub date: fn(&mut Vec<u8>),
    /// What the app's filters change.
    pub edits: Option<ResponseEdits<'a>>,
}

/// Whether a body framed like this needs the connection's close to end it for a client of `version`.
pub fn needs_close(framing: Framing, version: Version) -> bool {
    version == Version::Http10 && matches!(framing, Framing::Chunked | Framing::UntilClose)
}

/// Appends a final response's head. The caller has made `downstream.keep_alive` false where
/// [`needs_close`] says so.
pub fn response(
    response: &ResponseHead,
    head: &[u8],
    downstream: Downstream<'_>,
    out: &mut Vec<u8>,
) -> Delimiting {
    status_line(response, head, out);
    copy_fields(&response.fields, head, out, passed_on(response, head, downstream.edits));
    let recoding = downstream.edits.and_then(|edits| edits.recoding);
    out.extend_from_slice(downstream.edits.map_or(&[], |edits| edits.added));
    out.extend_from_slice(recoding.map_or(&[], |recoding| &recoding.lines));
    if let Some(length) = unsaid_length(response, head, downstream.edits) {
        push_length(out, length);
    }
    if let Some(hsts) = downstream.hsts
        && response.fields.first(FieldKind::StrictTransportSecurity).is_none()
    {
        out.extend_from_slice(hsts);
    }
    if response.fields.first(FieldKind::Date).is_none() {
        (downstream.date)(out);
    }
    let is_recoded = recoding.is_some_and(|recoding| recoding.is_recoded);
    let is_chunked = downstream.version == Version::Http11
        && (is_recoded || matches!(response.framing, Framing::Chunked | Framing::UntilClose));
    if is_chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (downstream.keep_alive, downstream.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11 | Version::Http2) => {}
    }
    out.extend_from_slice(b"\r\n");
    if is_chunked { Delimiting::Chunked } else { Delimiting::Plain }
}

/// Which of a final response's fields go to the client, asked in their order; in whatever version.
pub(super) fn passed_on<'r>(
    response: &'r ResponseHead,
    head: &'r [u8],
    edits: Option<ResponseEdits<'r>>,
) -> impl FnMut(&Field) -> bool + use<'r> {
    let names = names_fields(&response.fields, head);
    let mut lengths = 0;
    let recoding = edits.and_then(|edits| edits.recoding);
    let is_recoded = recoding.is_some_and(|recoding| recoding.is_recoded);
    let describes_body = !matches!(response.status, 100..=199 | 204) && !is_recoded;
    move |field| match field.kind {
        _ if recoding.is_some_and(|recoding| !recoding.passes(field.name.within(head))) => false,
        _ if edits.is_some_and(|edits| edits.strips.contains(field.name.within(head))) => false,
        // Of a HEAD or 304 response it describes the body that is not sent.
        FieldKind::ContentLength => {
            lengths += 1;
            lengths == 1 && describes_body && is_single_length(field, head)
        }
        kind if kind.is_hop_by_hop() => false,
        _ => !(names && response.connection_names(head, field.name.within(head))),
    }
}

/// The body's length, where no field that is passed on says it.
pub(super) fn unsaid_length(
    response: &ResponseHead,
    head: &[u8],
    edits: Option<ResponseEdits<'_>>,
) -> Option<u64> {
    let Framing::Length(length) = response.framing else { return None };
    if edits.and_then(|edits| edits.recoding).is_some_and(|recoding| recoding.is_recoded) {
        return None;
    }
    let said = response.fields.first(FieldKind::ContentLength);
    (!said.is_some_and(|field| is_single_length(field, head))).then_some(length)
}

/// Appends the head that agrees to leave HTTP (RFC 9110 section 15.2.2). An endpoint that speaks HTTP/2
/// agreed with a 2xx (RFC 8441 section 5); `accept` is what a WebSocket client then wants to see.
pub fn switching(response: &ResponseHead, head: &[u8], accept: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    let mut upgrades = response.fields.all(FieldKind::Upgrade).map(|field| field.value.within(head));
    push_field(out, b"Upgrade: ", upgrades.next().unwrap_or(b"websocket"));
    copy_fields(&response.fields, head, out, passed_on(response, head, None));
    if let Some(accept) = accept.filter(|_| response.status != 101) {
        push_field(out, b"Sec-WebSocket-Accept: ", accept);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response (1xx) as it is forwarded.
pub fn interim(response: &ResponseHead, head: &[u8], out: &mut Vec<u8>) {
    status_line(response, head, out);
    let names = names_fields(&response.fields, head);
    copy_fields(&response.fields, head, out, |field| {
        !(field.kind.is_hop_by_hop() || names && response.connection_names(head, field.name.within(head)))
    });
    out.extend_from_slice(b"\r\n");
}

/// Neither a list of equal values nor with leading zeros: those are written anew.
fn is_single_length(field: &Field, head: &[u8]) -> bool {
    let value = field.value.within(head);
    !value.contains(&b',') && (value.len() == 1 || value.first() != Some(&b'0'))
}

fn status_line(response: &ResponseHead, head: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(u64::from(response.status), out);
    out.push(b' ');
    out.extend_from_slice(response.phrase.within(head));
    out.extend_from_slice(b"\r\n");
}

/// Copies the lines that `keep` wants; neighbours in one go.
fn copy_fields(fields: &Fields, head: &[u8], out: &mut Vec<u8>, mut keep: impl FnMut(&Field) -> bool) {
    let mut run = Span::default();
    for field in fields.iter() {
        if keep(field) {
            if run.end != field.line.start {
                out.extend_from_slice(run.within(head));
                run.start = field.line.start;
            }
            run.end = field.line.end;
        }
    }
    out.extend_from_slice(run.within(head));
}

/// Whether Connection names anything but the connection's own options.
pub(super) fn names_fields(fields: &Fields, head: &[u8]) -> bool {
    fields.all(FieldKind::Connection).any(|field| {
        list_items(field.value.within(head))
            .any(|item| !item.eq_ignore_ascii_case(b"keep-alive") && !item.eq_ignore_ascii_case(b"close"))
    })
}

fn push_field(out: &mut Vec<u8>, start: &[u8], value: &[u8]) {
    out.extend_from_slice(start);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(length, out);
    out.extend_from_slice(b"\r\n");
}

/// `write!` costs a formatter per number; heads have several.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub fn push_ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                push_decimal(u64::from(octet), out);
            }
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => push_ip(IpAddr::V4(v4), out),
            None => write!(out, "{v6}").expect("writing to a Vec never fails"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(is_trusted: bool) -> Hop<'static> {
        Hop {
            peer: "10.0.0.7".parse().unwrap(),
            is_trusted,
            is_tls: false,
            local_authority: "127.0.0.1:80",
            pseudonym: "gw-1",
            request_id: "0123",
            identity: None,
            trace: None,
            edits: None,
        }
    }

    #[test]
    fn a_trace_is_ours_to_tell_where_there_is_one_and_the_clients_otherwise() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nTraceparent: theirs\r\nTracestate: b=c\r\n\r\n";
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        let told = |trace| {
            let mut out = Vec::new();
            request(&parsed, head.as_bytes(), &Hop { trace, ..hop(false) }, &mut out);
            String::from_utf8(out).unwrap()
        };
        let out = told(None);
        assert!(out.contains("Traceparent: theirs\r\nTracestate: b=c\r\n"), "{out}");
        for keeps_state in [true, false] {
            let out = told(Some(TraceHop { traceparent: [b'0'; TRACEPARENT_BYTES], keeps_state }));
            assert!(!out.contains("theirs") && out.contains("traceparent: 000"), "{out}");
            assert_eq!(out.contains("Tracestate: b=c\r\n"), keeps_state, "{out}");
        }
    }

    fn forwarded(head: &str, is_trusted: bool) -> String {
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        let mut out = Vec::new();
        request(&parsed, head.as_bytes(), &hop(is_trusted), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_names_end_here() {
        let head = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTE: gzip\r\n\
                    Keep-Alive: 5\r\nUpgrade: h2c\r\nAccept:  */* \r\nCookie: c\r\n\r\n";
        assert_eq!(
            forwarded(head, false),
            "GET /x HTTP/1.1\r\nHost: a\r\nAccept:  */* \r\nCookie: c\r\nX-Forwarded-For: 10.0.0.7\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nForwarded: for=10.0.0.7;host=\"a\";proto=http\r\n\
             X-Request-Id: 0123\r\nVia: 1.1 gw-1\r\n\r\n"
        );
    }

    #[test]
    fn connection_cannot_remove_host_or_our_own_fields() {
        let out =
            forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: host, x-forwarded-for, via\r\n\r\n", false);
        assert!(
            out.contains("Host: a\r\n")
                && out.contains("X-Forwarded-For: 10.0.0.7\r\n")
                && out.contains("Via: ")
        );
    }

    #[test]
    fn an_untrusted_client_cannot_claim_earlier_hops() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
                    Forwarded: for=1.1.1.1\r\nX-Request-Id: mine\r\nX-Real-IP: 1.1.1.1\r\n\
                    X_Forwarded_For: 1.1.1.2\r\n\r\n";
        let out = forwarded(head, false);
        assert!(!out.contains("1.1.1.") && !out.contains("https") && !out.contains("mine"), "{out}");
        let out = forwarded(head, true);
        assert!(out.contains("X-Forwarded-For: 1.1.1.1, 10.0.0.7\r\n"), "{out}");
        assert!(out.contains("X-Real-IP: 1.1.1.1\r\n") && !out.contains("1.1.1.2"), "{out}");
        assert!(out.contains("Forwarded: for=1.1.1.1, for=10.0.0.7;"), "{out}");
        assert!(
            out.contains("X-Forwarded-Proto: https\r\n") && out.contains("X-Request-Id: mine\r\n"),
            "{out}"
        );
    }

    #[test]
    fn an_absolute_target_becomes_origin_form_with_its_own_host() {
        let out = forwarded("GET http://b:81?q HTTP/1.1\r\nHost: a\r\n\r\n", false);
        assert!(
            out.starts_with("GET /?q HTTP/1.1\r\nHost: b:81\r\n") && !out.contains("Host: a\r\n"),
            "{out}"
        );
        let out = forwarded("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", false);
        assert!(out.starts_with("OPTIONS * HTTP/1.1\r\n"), "{out}");
    }

    #[test]
    fn http_1_0_without_host_gets_one() {
        let out = forwarded("GET / HTTP/1.0\r\n\r\n", false);
        assert!(
            out.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n") && out.contains("Via: 1.0 gw-1"),
            "{out}"
        );
    }

    fn answered(head: &str, version: Version, keep_alive: bool) -> (String, Delimiting) {
        let parsed = ResponseHead::parse(head.as_bytes(), Method::Get).unwrap();
        let mut out = Vec::new();
        let delimiting = response(
            &parsed,
            head.as_bytes(),
            Downstream { version, keep_alive, hsts: None, date: |_| {}, edits: None },
            &mut out,
        );
        (String::from_utf8(out).unwrap(), delimiting)
    }

    #[test]
    fn responses_are_framed_for_the_clients_version() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n";
        let (out, delimiting) = answered(chunked, Version::Http11, true);
        assert_eq!(out, "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(delimiting, Delimiting::Chunked);
        let (out, delimiting) = answered(chunked, Version::Http10, false);
        assert_eq!(out, "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n");
        assert_eq!(delimiting, Delimiting::Plain);
        let (out, _) = answered(
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            Version::Http11,
            true,
        );
        assert_eq!(out, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let (out, _) = answered(
            "HTTP/1.1 200 \r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n",
            Version::Http11,
            true,
        );
        assert_eq!(out, "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n");
    }

    #[test]
    fn numbers_and_addresses_are_written_as_usual() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for (given, wanted) in [("10.0.0.255", "10.0.0.255"), ("::1", "::1"), ("::ffff:1.2.3.4", "1.2.3.4")] {
            let mut out = Vec::new();
            push_ip(given.parse().unwrap(), &mut out);
            assert_eq!(out, wanted.as_bytes());
        }
    }
}
