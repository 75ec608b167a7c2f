//! Responses that two clients could understand differently: RFC 9112 sections 4, 5, 6.3 and 7.1.

use std::io::ErrorKind;

use tests::{Config, Gate, Gateway, RawClient, RawEndpoint};

/// What a gateway may do with a response.
#[derive(Clone, Copy)]
enum Fate {
    /// 502 with a reason, in its place.
    Refused,
    /// 502, or where its head was passed on already, a client connection that ends before the message.
    CutOrRefused,
    /// Its valid part is passed on; the connection that brought more is not used again.
    Trimmed(u16),
}

use Fate::{CutOrRefused, Refused, Trimmed};

struct Case {
    name: &'static str,
    method: &'static str,
    bytes: &'static [u8],
    /// Whether the endpoint ends the connection after these bytes.
    ends: bool,
    fate: Fate,
}

const fn stays(name: &'static str, bytes: &'static [u8], fate: Fate) -> Case {
    Case { name, method: "GET", bytes, ends: false, fate }
}

const fn ends(name: &'static str, bytes: &'static [u8], fate: Fate) -> Case {
    Case { name, method: "GET", bytes, ends: true, fate }
}

const fn head(name: &'static str, bytes: &'static [u8], fate: Fate) -> Case {
    Case { name, method: "HEAD", bytes, ends: false, fate }
}

const CASES: &[Case] = &[
    stays("two different lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Refused),
    stays("list of different lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd", Refused),
    stays("length and coding", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    stays("length with a plus", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Refused),
    stays("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Refused),
    stays("hexadecimal length", b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", Refused),
    stays("empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Refused),
    stays("length above 2^64", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc", Refused),
    stays("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
    stays("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused),
    stays("chunked is not last", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Refused),
    stays("coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    stays("bad length of a HEAD's response", b"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n", Refused),
    stays("NUL in a value", b"HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("bare CR in a value", b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 3\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("bare LF in the head", b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", Refused),
    stays("bare LF after a field", b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n", Refused),
    stays("folded field", b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("empty field name", b"HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("field without a colon", b"HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("space before a length's colon", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", Refused),
    stays("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("status in letters", b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("negative status", b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("two spaces before the status", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("version 2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("lower-case protocol", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    stays("garbage", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", Refused),
    ends("HTTP/0.9", b"<html>no head at all</html>\n", Refused),
    ends("nothing", b"", Refused),
    ends("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", Refused),
    ends("a head without its end", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Refused),
    stays("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Refused),
    stays("bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n", CutOrRefused),
    stays("chunk size with 0x", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", CutOrRefused),
    stays("chunk size above 2^64", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", CutOrRefused),
    stays("bare LF after a chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", CutOrRefused),
    stays("bare LF in a chunk extension", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", CutOrRefused),
    stays("nothing after chunk data", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n", CutOrRefused),
    stays("space before a trailer's colon", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", CutOrRefused),
    ends("a length cut short", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", CutOrRefused),
    ends("chunks cut short", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", CutOrRefused),
    stays("more than the length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Trimmed(200)),
    stays("more than the chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Trimmed(200)),
    stays("a 204 with a body", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Trimmed(204)),
    stays("a 304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Trimmed(304)),
    head("a HEAD with a body", b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Trimmed(200)),
];

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers `/{number}` with that case, and everything else well.
fn endpoint() -> RawEndpoint {
    RawEndpoint::start(|wire, _| {
        while let Some(lines) = tests::read_head(wire)? {
            let target = lines[0].split(' ').nth(1).unwrap_or_default();
            let number = target.strip_prefix('/').and_then(|number| number.parse::<usize>().ok());
            let case = number.map(|number| &CASES[number]);
            wire.send(case.map_or(OK, |case| case.bytes))?;
            if case.is_some_and(|case| case.ends) {
                return Ok(());
            }
        }
        Ok(())
    })
}

fn check(gateway: &Gateway, number: usize, case: &Case) -> Result<(), String> {
    let mut client = RawClient::connect(gateway.web());
    client.send(format!("{} /{number} HTTP/1.1\r\nHost: a\r\n\r\n", case.method));
    match (client.try_receive(case.method), case.fate) {
        (Ok(response), Refused | CutOrRefused) if response.status == 502 => {
            let reason = response.reason();
            if !matches!(reason, Some("upstream_bad_response" | "upstream_reset")) {
                return Err(format!("502 for the reason {reason:?}"));
            }
        }
        (Ok(response), Trimmed(status)) if response.status == status => {}
        (Err(error), CutOrRefused)
            if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {}
        (Ok(response), _) => return Err(format!("{} {:?}", response.status, response.text())),
        (Err(error), _) => return Err(error.to_string()),
    }
    // On both workers' pools, as far as two connections reach them.
    for _ in 0..4 {
        let after = gateway.get("a", "/ok");
        if after.text() != "ok" {
            return Err(format!("the next response is {} {:?}", after.status, after.text()));
        }
    }
    Ok(())
}

#[test]
fn an_ambiguous_response_is_never_passed_on_as_valid() {
    let endpoint = endpoint();
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let broken: Vec<String> = CASES
        .iter()
        .enumerate()
        .filter_map(|(number, case)| {
            check(&gateway, number, case).err().map(|why| format!("{}: {why}", case.name))
        })
        .collect();
    assert!(broken.is_empty(), "{} of {} cases:\n{}", broken.len(), CASES.len(), broken.join("\n"));
}

fn refusal_of(bytes: Vec<u8>) -> (u16, Option<String>) {
    let endpoint = RawEndpoint::answering(bytes);
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let response = gateway.get("a", "/");
    (response.status, response.reason().map(str::to_owned))
}

#[test]
fn a_response_head_that_is_too_large_is_a_502() {
    let huge = "x".repeat(1 << 20);
    let bytes = format!("HTTP/1.1 200 OK\r\nX: {huge}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(refusal_of(bytes.into_bytes()), (502, Some("upstream_bad_response".to_owned())));
}

#[test]
fn a_response_with_too_many_fields_is_a_502() {
    let fields = "X: y\r\n".repeat(5_000);
    let bytes = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
    assert_eq!(refusal_of(bytes.into_bytes()), (502, Some("upstream_bad_response".to_owned())));
}

#[test]
fn a_flood_of_interim_responses_ends() {
    let endpoint = RawEndpoint::start_unrecorded(|wire, _| {
        tests::read_head(wire)?;
        // Until the gateway has had enough.
        loop {
            wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        }
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = RawClient::connect(gateway.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (502, Some("upstream_bad_response")));
}

#[test]
fn a_response_that_nobody_asked_for_answers_no_later_request() {
    let gate = Gate::default();
    let sent = Gate::default();
    let (closed, told) = (gate.clone(), sent.clone());
    let endpoint = RawEndpoint::start(move |wire, number| {
        tests::read_head(wire)?;
        wire.send(OK)?;
        if number == 0 {
            closed.pass();
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")?;
            told.open();
        }
        while tests::read_head(wire)?.is_some() {
            wire.send(OK)?;
        }
        Ok(())
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = RawClient::connect(gateway.web());
    assert_eq!(client.get("a", "/").text(), "ok");
    // Now the connection lies in the pool of the worker that this client is with.
    gate.open();
    sent.pass();
    for _ in 0..3 {
        assert_eq!(client.get("a", "/").text(), "ok");
    }
}
