//! What the gateway writes for the next hop is read there as what it was.

use gateway::message::chunked::{LAST_CHUNK, write_chunk};
use gateway::message::encode::{self, Delimiting, Downstream, Hop};
use gateway::message::request::{MAX_FIELDS, MAX_HEAD_BYTES};
use gateway::message::{FieldKind, Fields, Framing, Method, RequestHead, ResponseHead, Version};

use crate::ours::{self, Body, BodyEnd, Request, Response};
use crate::pieces::cut;
use crate::requests::{SENTINEL, agree};
use crate::responses;
use crate::shown;

/// What a head may gain on its way, generously: heads that are near the limits may pass them then.
const ADDED_FIELDS: usize = 8;
const ADDED_BYTES: usize = 1 << 10;

/// Concern one connection only (RFC 9110 sections 7.6.1 and 11.7). Not the gateway's own list, which may
/// be wrong.
const ENDS_HERE: [&[u8]; 4] =
    [b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"];

/// `request`, forwarded, is exactly one request again, with the same method, path, host and body, and
/// without what concerned the connection that it came on.
pub fn request(request: &Request, is_trusted: bool) {
    let (head, parsed) = (&request.head, &request.parsed);
    let hop = Hop {
        peer: std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
        is_trusted,
        is_tls: false,
        local_authority: "gateway.example:8080",
        pseudonym: "gw-1",
        request_id: "0123456789abcdef",
        identity: None,
        trace: None,
        edits: None,
    };
    let mut bytes = Vec::new();
    encode::request(parsed, head, &hop, &mut bytes);
    push_body(&request.body, parsed.framing == Framing::Chunked, &mut bytes);
    bytes.extend_from_slice(SENTINEL);
    let received = ours::requests(&bytes);
    if received.is_empty() && is_near_a_limit(&parsed.fields, head) {
        return;
    }
    let [forwarded, sentinel] = received.as_slice() else {
        panic!("{} requests in {}", received.len(), shown(&bytes));
    };
    assert_eq!(sentinel.head, SENTINEL, "{}", shown(&bytes));
    same_request(request, forwarded, hop.local_authority);
    agree(&received, &bytes);
}

pub fn is_near_a_limit(fields: &Fields, head: &[u8]) -> bool {
    fields.iter().count() + ADDED_FIELDS > MAX_FIELDS || head.len() + ADDED_BYTES > MAX_HEAD_BYTES
}

fn same_request(sent: &Request, forwarded: &Request, local_authority: &str) {
    let (before, after) = (&sent.parsed, &forwarded.parsed);
    assert_eq!(before.method_name.within(&sent.head), after.method_name.within(&forwarded.head));
    assert_eq!(forwarded_path(before, &sent.head), after.path_and_query.within(&forwarded.head));
    assert_eq!(after.target, after.path_and_query, "an endpoint gets the origin form");
    let authority = match before.authority.within(&sent.head) {
        b"" if before.fields.first(FieldKind::Host).is_none() => local_authority.as_bytes(),
        authority => authority,
    };
    assert_eq!(authority, after.authority.within(&forwarded.head), "{}", shown(&forwarded.head));
    assert_eq!(before.framing, after.framing);
    assert_eq!(before.expects_continue, after.expects_continue);
    assert!(after.keep_alive && after.version == Version::Http11);
    same_connection(sent, forwarded);
    same_forwarded_body(&sent.body, &forwarded.body);
    let options = |name: &[u8]| before.connection_names(&sent.head, name);
    fields_pass(&before.fields, &sent.head, &after.fields, &forwarded.head, options);
}

/// Of what concerns the connection only an upgrade and the wish for trailers go on, said anew.
fn same_connection(sent: &Request, forwarded: &Request) {
    let values = |kind| -> Vec<&[u8]> {
        let fields = forwarded.parsed.fields.all(kind);
        fields.map(|field| field.value.within(&forwarded.head)).collect()
    };
    let upgrade = sent.parsed.upgrade.map(|protocol| protocol.within(&sent.head));
    let takes_trailers = sent.parsed.takes_trailers(&sent.head);
    let options: &[&[u8]] = match (upgrade.is_some(), takes_trailers) {
        (false, false) => &[],
        (false, true) => &[b"TE"],
        (true, false) => &[b"Upgrade"],
        (true, true) => &[b"Upgrade, TE"],
    };
    let shown = shown(&forwarded.head);
    assert_eq!(values(FieldKind::Connection), options, "{shown}");
    assert_eq!(values(FieldKind::Upgrade), upgrade.into_iter().collect::<Vec<_>>(), "{shown}");
    let te: &[&[u8]] = if takes_trailers { &[b"trailers"] } else { &[] };
    assert_eq!(values(FieldKind::Te), te, "{shown}");
}

/// RFC 9112 section 3.2.4: the absolute form's path, which may be absent.
fn forwarded_path(request: &RequestHead, head: &[u8]) -> Vec<u8> {
    match request.path_and_query.within(head) {
        b"" if request.method == Method::Options => b"*".to_vec(),
        path @ (b"*" | [b'/', ..]) => path.to_vec(),
        rest => [b"/", rest].concat(),
    }
}

fn same_forwarded_body(before: &Body, after: &Body) {
    assert_eq!(after.end, BodyEnd::Complete);
    assert_eq!(shown(&before.payload), shown(&after.payload));
    assert_eq!(shown(&before.tail), shown(&after.tail));
}

/// Whether nobody but the two ends owns fields of this kind.
pub fn passing(kind: FieldKind) -> bool {
    use FieldKind::{
        ContentType, GrpcTimeout, Other, Referer, SecWebSocketAccept, SecWebSocketKey, UserAgent,
    };
    let passing = [Other, UserAgent, Referer, ContentType, GrpcTimeout, SecWebSocketKey, SecWebSocketAccept];
    passing.contains(&kind)
}

/// Fields that nobody owns pass in their order with their values, unless Connection names them; those of
/// the connection are gone.
fn fields_pass(
    before: &Fields,
    head: &[u8],
    after: &Fields,
    forwarded: &[u8],
    is_option: impl Fn(&[u8]) -> bool,
) {
    let wanted: Vec<_> = before
        .iter()
        .filter(|field| passing(field.kind) && !is_option(field.name.within(head)))
        .map(|field| (field.name.within(head), field.value.within(head)))
        .collect();
    let found: Vec<_> = after
        .iter()
        .filter(|field| passing(field.kind))
        .map(|field| (field.name.within(forwarded), field.value.within(forwarded)))
        .collect();
    assert_eq!(wanted, found, "{}", shown(forwarded));
    for field in after.iter() {
        let (name, value) = (field.name.within(forwarded), field.value.within(forwarded));
        assert!(!ENDS_HERE.iter().any(|ended| name.eq_ignore_ascii_case(ended)), "{}", shown(forwarded));
        let is_connection = name.eq_ignore_ascii_case(b"connection");
        let known = [&b"close"[..], b"keep-alive", b"TE", b"Upgrade", b"Upgrade, TE"];
        assert!(!is_connection || known.contains(&value), "{}", shown(forwarded));
    }
}

/// `response`, forwarded to a client of either version, is the same response to the same method.
pub fn response(response: &Response, method: Method) {
    for (version, wants_more) in
        [(Version::Http11, true), (Version::Http11, false), (Version::Http10, true), (Version::Http10, false)]
    {
        let framing = response.parsed.framing;
        let keep_alive = wants_more && !encode::needs_close(framing, version);
        let mut bytes = Vec::new();
        let delimiting = encode::response(
            &response.parsed,
            &response.head,
            Downstream { version, keep_alive, hsts: None, date: |_| {}, edits: None },
            &mut bytes,
        );
        push_body(&response.body, delimiting == Delimiting::Chunked, &mut bytes);
        received(
            response,
            method,
            &bytes,
            Downstream { version, keep_alive, hsts: None, date: |_| {}, edits: None },
        );
    }
}

fn received(sent: &Response, method: Method, bytes: &[u8], downstream: Downstream) {
    let (interims, received) = ours::response(bytes, method);
    assert!(interims.is_empty(), "{}", shown(bytes));
    let Some(received) = received else {
        assert!(is_near_a_limit(&sent.parsed.fields, &sent.head), "unreadable: {}", shown(bytes));
        return;
    };
    let (before, after) = (&sent.parsed, &received.parsed);
    assert_eq!(received.end, bytes.len(), "{}", shown(bytes));
    assert_eq!(before.status, after.status);
    assert_eq!(before.phrase.within(&sent.head), after.phrase.within(&received.head), "{}", shown(bytes));
    assert_eq!(downstream.keep_alive, after.keep_alive, "{}", shown(bytes));
    let awaits_close = after.framing == Framing::UntilClose;
    assert!(!(downstream.keep_alive && awaits_close), "nothing ends it: {}", shown(bytes));
    assert_eq!(received.body.end, BodyEnd::Complete);
    assert_eq!(shown(&sent.body.payload), shown(&received.body.payload), "{}", shown(bytes));
    if before.framing == Framing::Chunked && after.framing == Framing::Chunked {
        assert_eq!(shown(&sent.body.tail), shown(&received.body.tail));
    }
    let options = |name: &[u8]| before.connection_names(&sent.head, name);
    fields_pass(&before.fields, &sent.head, &after.fields, &received.head, options);
    responses::agree(&received, method, bytes);
}

/// An interim response, forwarded, is the same interim response.
pub fn interim(parsed: &ResponseHead, head: &[u8], method: Method) {
    let mut bytes = Vec::new();
    encode::interim(parsed, head, &mut bytes);
    let (interims, last) = ours::response(&bytes, method);
    let [(received, after)] = interims.as_slice() else {
        panic!("{} interim responses in {}", interims.len(), shown(&bytes));
    };
    assert!(last.is_none() && received.len() == bytes.len());
    assert_eq!(parsed.status, after.status);
    let options = |name: &[u8]| parsed.connection_names(head, name);
    fields_pass(&parsed.fields, head, &after.fields, received, options);
}

/// As `proxy::relay` frames it, in pieces of its own.
fn push_body(body: &Body, is_chunked: bool, out: &mut Vec<u8>) {
    if !is_chunked {
        out.extend_from_slice(&body.payload);
        return;
    }
    for piece in cut(&body.payload, 2) {
        write_chunk(piece, out);
    }
    out.extend_from_slice(if body.tail.is_empty() { LAST_CHUNK } else { &body.tail });
}
