use std::net::IpAddr;

use http::{Request, Response};

use super::super::encode::{self, Hop};
use super::super::{Framing, Malformed, Method, RequestHead, Version};
use super::*;

fn hop() -> Hop<'static> {
    Hop {
        peer: IpAddr::from([10, 0, 0, 7]),
        is_trusted: false,
        is_tls: true,
        local_authority: "127.0.0.1:443",
        pseudonym: "gw-1",
        request_id: "0123456789abcdef0123456789abcdef",
        identity: None,
        trace: None,
        edits: None,
    }
}

fn request(fields: &[(&str, &str)]) -> http::request::Parts {
    let builder = Request::builder().method("POST").uri("https://shop.example/a?b");
    let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

fn as_http1(parts: &http::request::Parts, has_body: bool) -> Result<String, Malformed> {
    let (bytes, head) = read_request(parts, has_body)?;
    let mut out = Vec::new();
    encode::request(&head, &bytes, &hop(), &mut out);
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_request_reaches_an_http1_endpoint_as_if_it_had_come_that_way() {
    let parts = request(&[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("te", "trailers")]);
    let out = as_http1(&parts, true).unwrap();
    assert!(
        out.starts_with("POST /a?b HTTP/1.1\r\nhost: shop.example\r\ncookie: a=1; b=2\r\naccept: */*\r\n")
    );
    assert!(
        out.contains("Via: 2.0 gw-1\r\nConnection: TE\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
    );
    assert!(RequestHead::parse(out.as_bytes()).is_ok());
}

#[test]
fn a_request_that_breaks_a_rule_is_refused() {
    for (fields, wanted) in [
        (&[("host", "other.example")][..], Malformed::HostAndAuthority),
        (&[("host", "shop.example"), ("host", "shop.example")], Malformed::HostCount),
        (&[("connection", "close")], Malformed::ConnectionField),
        (&[("transfer-encoding", "chunked")], Malformed::ConnectionField),
        (&[("upgrade", "websocket")], Malformed::ConnectionField),
        (&[("te", "gzip")], Malformed::ConnectionField),
        (&[("content-length", "1"), ("content-length", "1")], Malformed::ContentLength),
        (&[("content-length", "+1")], Malformed::ContentLength),
        (&[("x", " padded")], Malformed::Grammar),
        (&[("expect", "tea")], Malformed::Expectation),
    ] {
        assert_eq!(as_http1(&request(fields), true).err(), Some(wanted), "{fields:?}");
    }
    assert_eq!(
        as_http1(&request(&[("content-length", "1")]), false).err(),
        Some(Malformed::LengthWithoutBody)
    );
    assert!(as_http1(&request(&[("host", "Shop.Example")]), true).is_ok());
    let long = "x".repeat(40_000);
    assert_eq!(as_http1(&request(&[("x", &long)]), true).err(), Some(Malformed::HeadTooLong));
}

#[test]
fn extended_connect_is_a_websocket_handshake() {
    let mut parts = request(&[("sec-websocket-version", "13")]);
    parts.method = http::Method::CONNECT;
    parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
    let out = as_http1(&parts, true).unwrap();
    assert!(out.starts_with("GET /a?b HTTP/1.1\r\n"), "{out}");
    assert!(out.contains("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "), "{out}");
    let parsed = RequestHead::parse(out.as_bytes()).unwrap();
    assert!(parsed.upgrade.is_some() && parsed.framing == Framing::None);
}

#[test]
fn a_request_comes_out_of_http2_as_it_went_in() {
    let (bytes, head) = read_request(&request(&[("accept", "*/*"), ("te", "trailers")]), true).unwrap();
    let out = write_request(&head, &bytes, &hop()).unwrap();
    assert_eq!(out.uri(), "https://shop.example/a?b");
    assert_eq!(out.headers()["te"], "trailers");
    assert_eq!(out.headers()["x-forwarded-for"], "10.0.0.7");
    assert!(!out.headers().contains_key("host") && !out.headers().contains_key("connection"));
}

#[test]
fn responses_keep_what_they_say_and_lose_what_ends_here() {
    let parts = |status: u16, fields: &[(&str, &str)]| {
        let builder = Response::builder().status(status);
        let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    };
    let (bytes, head) = read_response(&parts(200, &[("x", "1")]), Method::Get, true).unwrap();
    assert_eq!(head.framing, Framing::Chunked);
    let mut out = Vec::new();
    let downstream = encode::Downstream {
        version: Version::Http11,
        keep_alive: true,
        hsts: None,
        date: |_| {},
        edits: None,
    };
    encode::response(&head, &bytes, downstream, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 \r\nx: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (_, head) = read_response(&parts(200, &[]), Method::Get, false).unwrap();
    assert_eq!(head.framing, Framing::Length(0));
    let (_, head) = read_response(&parts(200, &[("content-length", "5")]), Method::Head, false).unwrap();
    assert_eq!(head.framing, Framing::None);
    assert!(read_response(&parts(101, &[]), Method::Get, false).is_err());
    assert!(read_response(&parts(200, &[("content-length", "5")]), Method::Get, false).is_err());
}

/// RFC 6455 section 1.3's example.
#[test]
fn the_accept_value_is_the_standards() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let request = RequestHead::parse(head).unwrap();
    assert_eq!(websocket_accept(&request, head).as_deref(), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
}

#[test]
fn trailers_lose_what_no_recipient_may_believe() {
    let mut fields = http::HeaderMap::new();
    for (name, value) in [("grpc-status", "0"), ("content-length", "5"), ("host", "evil"), ("te", "x")] {
        fields.append(name, value.parse().unwrap());
    }
    let mut lines = Vec::new();
    write_trailers(&fields, &mut lines);
    assert_eq!(lines, b"grpc-status: 0\r\n");
    assert_eq!(read_trailers(&lines).unwrap()["grpc-status"], "0");
}
