//! Where a body ends, whoever delimits it and however.

use tests::{Config, Fields, Framing, Gate, Gateway, RawEndpoint, Reply};

use crate::{answering, behaving, pattern};

/// Around the sizes where buffers and chunk sizes change.
const SIZES: [usize; 9] = [0, 1, 15, 16, 4_095, 16_384, 65_537, 1 << 20, 5 << 20];

fn chunked(body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in body.chunks(chunk) {
        bytes.extend(format!("{:x}\r\n", part.len()).into_bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[test]
fn bodies_with_a_length_pass_both_ways() {
    let (gateway, endpoint) = behaving(|request| Reply::ok(request.body.clone()));
    let mut client = gateway.connect();
    for size in SIZES {
        let body = pattern(size);
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        let response = client.receive();
        assert!(response.body == body, "{size} bytes came back as {}", response.body.len());
        assert_eq!(response.framing, Framing::Length);
        assert_eq!(endpoint.last().framing, Framing::Length);
    }
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let (gateway, endpoint) = behaving(|request| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        Reply::Raw([head, chunked(&request.body, 7_000)].concat())
    });
    let mut client = gateway.connect();
    for size in SIZES {
        let body = pattern(size);
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, 10_000));
        let response = client.receive();
        assert!(response.body == body, "{size} bytes came back as {}", response.body.len());
        assert_eq!(response.framing, Framing::Chunked);
        assert_eq!(endpoint.last().framing, Framing::Chunked);
    }
}

#[test]
fn chunks_of_one_byte_each_pass() {
    let (gateway, _endpoint) = behaving(|request| Reply::ok(request.body.clone()));
    let mut client = gateway.connect();
    let body = pattern(3_000);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&body, 1));
    assert!(client.receive().body == body);
}

#[test]
fn trailers_of_a_request_reach_the_endpoint() {
    let (gateway, endpoint) = behaving(|_| Reply::ok("ok"));
    let mut client = gateway.connect();
    client.send(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n",
    );
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().trailers.get("x-sum"), Some("42"));
}

#[test]
fn trailers_of_a_response_reach_a_client_that_asked_for_them() {
    let (gateway, _endpoint) = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n",
    );
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let response = client.receive();
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailers, Fields(vec![("x-sum".to_owned(), "42".to_owned())]));
}

#[test]
fn a_chunked_response_is_unchunked_and_closed_for_http_1_0() {
    let (gateway, _endpoint) =
        answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = client.receive();
    // RFC 9112 section 6.1: no Transfer-Encoding to a client of HTTP/1.0.
    assert_eq!((response.framing, response.text().as_str()), (Framing::Close, "abcdef"));
}

#[test]
fn a_response_that_ends_with_its_connection_is_chunked_and_the_client_connection_stays() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nX-Kept: yes\r\n\r\nfirst ")?;
        wire.send(b"second")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let response = client.get("a", "/");
        assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "first second"));
        assert_eq!(response.fields.get("x-kept"), Some("yes"));
    }
}

#[test]
fn an_http_1_0_endpoint_is_understood() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    for _ in 0..3 {
        // The reader accepts a status line of HTTP/1.1 only.
        assert_eq!(client.get("a", "/").text(), "old");
    }
    assert_eq!(endpoint.accepted(), 3);
}

#[test]
fn head_responses_keep_their_length_and_have_no_body() {
    let (gateway, endpoint) = behaving(|_| Reply::ok("twelve bytes"));
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.receive_for("HEAD");
        assert_eq!(response.fields.get("content-length"), Some("12"));
    }
    // Had a body byte followed, this response would not parse.
    assert_eq!(client.get("a", "/").text(), "twelve bytes");
    assert_eq!(endpoint.accepted(), 1);
}

#[test]
fn responses_204_and_304_have_no_body() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"x\"\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (gateway, endpoint) = answering(head);
        let mut client = gateway.connect();
        for _ in 0..3 {
            let response = client.get("a", "/");
            assert!(response.status == 204 || response.status == 304, "{response:?}");
        }
        assert_eq!(endpoint.accepted(), 1, "{head:?}");
    }
}

#[test]
fn a_204_carries_no_framing_fields() {
    // RFC 9110 section 8.6 and RFC 9112 section 6.1.
    let (gateway, _endpoint) = answering("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    let response = gateway.get("a", "/");
    assert_eq!(response.status, 204);
    assert_eq!(response.fields.get("content-length"), None);
}

#[test]
fn a_response_cut_short_is_cut_short_for_the_client() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (gateway, _endpoint) = behaving(move |_| Reply::RawThenClose(bytes.as_bytes().to_vec()));
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let error = client.try_receive("GET").expect_err("an incomplete response must not look complete");
        assert!(
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }
}

#[test]
fn a_response_of_unknown_length_that_is_reset_is_cut_short_for_the_client() {
    let gate = Gate::default();
    let closed = gate.clone();
    let endpoint = RawEndpoint::start(move |wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")?;
        closed.pass();
        wire.reset_at_end()
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive_head().status, 200);
    assert_eq!(client.wire.exactly(9).expect("one chunk"), b"4\r\nhalf\r\n");
    gate.open();
    let rest = client.wire.rest().unwrap_or_default();
    assert_eq!(rest, b"", "a body that was cut short was completed");
}

#[test]
fn bytes_flow_before_the_body_is_complete() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")?;
        // Each half only when the client has sent its own.
        let first = wire.exactly(4)?;
        wire.send(&first)?;
        let second = wire.exactly(4)?;
        wire.send(&second)
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nping");
    assert_eq!(client.receive_head().status, 200);
    assert_eq!(client.wire.exactly(4).expect("the first half arrives alone"), b"ping");
    client.send("pong");
    assert_eq!(client.wire.exactly(4).expect("the second half follows"), b"pong");
}
