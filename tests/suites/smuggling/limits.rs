//! Requests larger than anyone means to send. The default limits are far below these sizes.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tests::{RawClient, Response};

use crate::Bench;

const HUGE_BYTES: usize = 1 << 20;
/// Well above the gateway's own limit of ten seconds for a head.
const HEADER_DEADLINE: Duration = Duration::from_secs(25);
/// Between two drops of a slow sender.
const PAUSE: Duration = Duration::from_millis(500);
const MANY_FIELDS: usize = 5_000;

/// The answer to a request that the gateway may refuse before it has read it all.
fn refused(bench: &Bench, parts: &[&[u8]]) -> Response {
    let mut client = RawClient::connect(bench.gateway.web());
    for part in parts {
        // The gateway may have closed already; what counts is that its answer can be read.
        if client.wire.send(part).is_err() {
            break;
        }
    }
    let response = client.receive();
    assert!(client.is_ended(), "the connection was not closed after {}", response.status);
    response
}

#[test]
fn a_head_that_is_too_large_is_a_431() {
    let bench = Bench::new();
    let huge = vec![b'x'; HUGE_BYTES];
    let response = refused(&bench, &[b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &huge, b"\r\n\r\n"]);
    assert_eq!((response.status, response.reason()), (431, Some("head_too_large")));
    assert_eq!(bench.received(), 0);
}

#[test]
fn a_head_with_too_many_fields_is_a_431() {
    let bench = Bench::new();
    let fields = b"X: y\r\n".repeat(MANY_FIELDS);
    let response = refused(&bench, &[b"GET / HTTP/1.1\r\nHost: a\r\n", &fields, b"\r\n"]);
    assert_eq!((response.status, response.reason()), (431, Some("head_too_large")));
    assert_eq!(bench.received(), 0);
}

#[test]
fn a_target_that_is_too_long_is_a_414() {
    let bench = Bench::new();
    let huge = vec![b'x'; HUGE_BYTES];
    let response = refused(&bench, &[b"GET /", &huge, b" HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert_eq!((response.status, response.reason()), (414, Some("uri_too_long")));
    assert_eq!(bench.received(), 0);
}

#[test]
fn trailers_that_are_too_large_are_refused() {
    let bench = Bench::new();
    let fields = b"X: y\r\n".repeat(HUGE_BYTES / 6);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let response = refused(&bench, &[head, &fields, b"\r\n"]);
    assert!(matches!(response.status, 400 | 431), "{} {:?}", response.status, response.reason());
    assert_eq!(bench.complete(), 0);
}

#[test]
fn a_chunk_extension_that_is_too_long_is_refused() {
    let bench = Bench::new();
    let huge = vec![b'x'; HUGE_BYTES];
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;";
    let response = refused(&bench, &[head, &huge, b"\r\nx\r\n0\r\n\r\n"]);
    assert_eq!((response.status, response.reason()), (400, Some("bad_body")));
    assert_eq!(bench.complete(), 0);
}

#[test]
fn a_head_that_never_ends_is_a_408_however_slowly_it_comes() {
    let bench = Bench::new();
    let mut client = RawClient::connect(bench.gateway.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    client.wire.limit(PAUSE).expect("the connection is open");
    let start = Instant::now();
    let response = loop {
        match client.try_receive("GET") {
            Ok(response) => break response,
            // A field now and then must not buy more time.
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < HEADER_DEADLINE => {
                client.send("X: y\r\n");
            }
            Err(error) => panic!("no response after {:?}: {error}", start.elapsed()),
        }
    };
    assert_eq!((response.status, response.reason()), (408, Some("header_timeout")));
    assert_eq!(bench.received(), 0);
}
