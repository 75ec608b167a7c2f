use topology::filters::{Compression as Settings, CompressionLevel, MediaPattern};

use super::*;

fn compression() -> Compression {
    let settings = Settings {
        codings: Settings::DEFAULT_CODINGS.to_vec(),
        types: vec![MediaPattern::parse("text/*").unwrap()],
        min_bytes: 100,
        level: CompressionLevel::Fast,
    };
    Compression::compile(&settings, None, 1)
}

const GET: Wanted = Wanted {
    method: Method::Get,
    version: Version::Http11,
    is_grpc: false,
    worker: 0,
    coding: Some(Coding::Gzip),
};

/// Whether the body is coded, and the lines that the head gains.
fn plan(status: &str, fields: &str, wanted: Wanted) -> Option<(bool, String)> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
    let response = ResponseHead::parse(head.as_bytes(), wanted.method).unwrap();
    let plan = compression().plan(&response, head.as_bytes(), wanted, &Room::default())?;
    assert_eq!(plan.head.is_recoded, plan.encoder.is_some());
    Some((plan.encoder.is_some(), String::from_utf8(plan.head.lines).unwrap()))
}

const TEXT: &str = "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n";

#[test]
fn a_coded_response_says_so_and_that_another_client_gets_another() {
    let (is_coded, lines) = plan("200 OK", TEXT, GET).unwrap();
    assert!(is_coded);
    assert_eq!(lines, "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n");
    // Whoever cannot read it is told of the choice too.
    let plain = Wanted { coding: None, ..GET };
    assert_eq!(plan("200 OK", TEXT, plain), Some((false, "Vary: Accept-Encoding\r\n".to_owned())));
    let said = format!("{TEXT}Vary: Cookie, accept-encoding\r\n");
    assert_eq!(plan("200 OK", &said, plain), Some((false, String::new())));
    // Errors are text like any other.
    assert!(plan("404 Not Found", TEXT, GET).unwrap().0);
}

#[test]
fn a_strong_tag_becomes_weak_and_a_weak_one_stays() {
    let (_, lines) = plan("200 OK", &format!("{TEXT}ETag: \"x\"\r\n"), GET).unwrap();
    assert!(lines.ends_with("ETag: W/\"x\"\r\n"), "{lines}");
    let (_, lines) = plan("200 OK", &format!("{TEXT}ETag: W/\"x\"\r\n"), GET).unwrap();
    assert!(!lines.contains("ETag"), "{lines}");
    let (is_coded, lines) = plan("304 Not Modified", "ETag: \"x\"\r\n", GET).unwrap();
    assert_eq!((is_coded, &*lines), (false, "Vary: Accept-Encoding\r\nETag: W/\"x\"\r\n"));
}

#[test]
fn what_must_not_be_changed_is_not() {
    for (status, fields) in [
        ("200 OK", "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n".to_owned()),
        ("200 OK", "Transfer-Encoding: chunked\r\n".to_owned()),
        ("200 OK", format!("{TEXT}Content-Encoding: br\r\n")),
        ("200 OK", format!("{TEXT}Cache-Control: public, no-transform\r\n")),
        ("200 OK", format!("{TEXT}Content-Digest: sha-256=:x:\r\n")),
        ("200 OK", format!("{TEXT}Content-Range: bytes 0-1/9\r\n")),
        ("206 Partial Content", TEXT.to_owned()),
        ("204 No Content", "Content-Type: text/html\r\n".to_owned()),
    ] {
        assert_eq!(plan(status, &fields, GET), None, "{status} {fields}");
    }
    assert_eq!(plan("200 OK", TEXT, Wanted { is_grpc: true, ..GET }), None);
}

#[test]
fn what_gains_nothing_goes_as_it_is() {
    let sized = |length: u64| format!("Content-Type: text/html\r\nContent-Length: {length}\r\n");
    for (length, wanted) in [(0, false), (99, false), (100, true)] {
        assert_eq!(plan("200 OK", &sized(length), GET).unwrap().0, wanted, "{length}");
    }
    assert!(!plan("200 OK", TEXT, Wanted { version: Version::Http10, ..GET }).unwrap().0);
    assert!(!plan("200 OK", &sized(1000), Wanted { method: Method::Head, ..GET }).unwrap().0);
    assert!(plan("200 OK", "Content-Type: text/html\r\n", GET).unwrap().0, "until the connection closes");
}
