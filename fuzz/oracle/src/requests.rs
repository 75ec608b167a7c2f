//! Pipelined requests: ours, hyper's, and what we send upstream for them.

use std::collections::BTreeMap;

use gateway::message::chunked::is_allowed_trailer;
use gateway::message::{Fields, RequestHead, Version};
use hyper::HeaderMap;

use crate::ours::{BodyEnd, Request};
use crate::pieces::{cut, hash};
use crate::theirs::{self, Body};
use crate::{differences, ours, roundtrip, shown};

/// Follows the last request that we accepted: who sees it agrees on where that one ended.
pub const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: sentinel\r\n\r\n";

/// `input` is what a client sends on one connection.
///
/// # Panics
/// When hyper refuses or frames differently what we accept, or when what we make of it for the next
/// hop is not exactly the same request.
pub fn requests(input: &[u8]) {
    let accepted = ours::requests(input);
    agree(&accepted, input);
    let is_trusted = hash(input) & 1 == 0;
    for request in accepted.iter().filter(|request| request.body.end == BodyEnd::Complete) {
        roundtrip::request(request, is_trusted);
    }
}

/// hyper sees the `accepted` requests that `input` begins with, and where the last of them ends.
pub fn agree(accepted: &[Request], input: &[u8]) {
    let Some(last) = accepted.last() else { return };
    let mut bytes = input.to_vec();
    if last.body.end == BodyEnd::Complete {
        bytes.truncate(last.end);
        bytes.extend_from_slice(SENTINEL);
    }
    let seen = theirs::requests(&cut(&bytes, 1));
    let mut seen = seen.iter();
    let mut former_may_have_closed = false;
    for request in accepted {
        let Some(theirs) = seen.next() else {
            let target = request.parsed.target.within(&request.head);
            let is_excused = former_may_have_closed || differences::may_refuse_target(target);
            assert!(is_excused, "hyper refuses what we accept: {}", shown(&request.head));
            return;
        };
        same(request, theirs);
        former_may_have_closed = differences::may_differ_in_keep_alive(&request.parsed.fields, &request.head);
    }
    if last.body.end == BodyEnd::Complete {
        ends_here(last, &seen.collect::<Vec<_>>(), former_may_have_closed);
    }
}

/// hyper goes on with the sentinel if the connection stays open, and else with nothing.
fn ends_here(last: &Request, seen: &[&theirs::Request], may_differ: bool) {
    let found = match seen {
        [] => false,
        [only] if only.uri.path() == "/sentinel" => true,
        _ => panic!("hyper sees other requests after {}: {seen:?}", shown(&last.head)),
    };
    let wanted = last.parsed.keep_alive;
    assert!(found == wanted || may_differ, "hyper stays open: {found} after {}", shown(&last.head));
}

fn same(ours: &Request, theirs: &theirs::Request) {
    let (head, parsed) = (&ours.head, &ours.parsed);
    assert_eq!(parsed.method_name.within(head), theirs.method.as_str().as_bytes(), "{}", shown(head));
    let version =
        if parsed.version == Version::Http11 { hyper::Version::HTTP_11 } else { hyper::Version::HTTP_10 };
    assert_eq!(version, theirs.version, "{}", shown(head));
    same_target(parsed, head, &theirs.uri);
    same_fields(&parsed.fields, head, &theirs.fields);
    same_body(&ours.body, &theirs.body, head);
}

fn same_target(parsed: &RequestHead, head: &[u8], uri: &hyper::Uri) {
    let path_and_query = parsed.path_and_query.within(head);
    let (path, query) = match path_and_query.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path_and_query[..at], Some(&path_and_query[at + 1..])),
        None => (path_and_query, None),
    };
    let path = if path.is_empty() { b"/" } else { path };
    assert_eq!(path, uri.path().as_bytes(), "{}", shown(head));
    assert_eq!(query, uri.query().map(str::as_bytes), "{}", shown(head));
    if let Some(authority) = uri.authority() {
        assert_eq!(parsed.authority.within(head), authority.as_str().as_bytes(), "{}", shown(head));
    } else {
        assert_eq!(parsed.target, parsed.path_and_query, "{}", shown(head));
    }
}

/// Names without regard to case, each with its values in order.
pub fn same_fields(ours: &Fields, head: &[u8], theirs: &HeaderMap) {
    let mut here: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for field in ours.iter() {
        let name = String::from_utf8_lossy(field.name.within(head)).to_ascii_lowercase();
        here.entry(name).or_default().push(field.value.within(head));
    }
    let mut there: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for (name, value) in theirs {
        there.entry(name.as_str().to_owned()).or_default().push(value.as_bytes());
    }
    assert_eq!(here, there, "{}", shown(head));
}

pub fn same_body(ours: &ours::Body, theirs: &Body, head: &[u8]) {
    match ours.end {
        // What is forwarded of it ends in a broken connection; how much that is, is nobody's promise.
        BodyEnd::Refused => return,
        BodyEnd::Complete => assert!(theirs.is_complete, "hyper misses the body's end: {}", shown(head)),
        BodyEnd::Truncated => assert!(!theirs.is_complete, "hyper sees an end: {}", shown(head)),
    }
    assert_eq!(shown(&ours.payload), shown(&theirs.payload), "{}", shown(head));
    same_trailers(&ours.tail, &theirs.trailers);
}

/// `tail` has hyper's trailers but for those that a recipient must not take from there.
fn same_trailers(tail: &[u8], theirs: &HeaderMap) {
    let mut here: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(tail).split("\r\n").skip(1) {
        if let Some((name, value)) = line.split_once(": ") {
            here.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
        }
    }
    let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in theirs {
        if is_allowed_trailer(name.as_str().as_bytes()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            there.entry(name.as_str().to_owned()).or_default().push(value);
        }
    }
    assert_eq!(here, there, "{}", shown(tail));
}
