//! What two readers could understand differently gets no further than the gateway.
//!
//! Each table is run to its end; a failure lists every case that broke its promise.

mod bodies;
mod heads;
mod limits;
mod responses;
mod valid;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::{Config, DEADLINE, Gateway, RawClient, RawEndpoint, Request, Wire, contains, eventually};

/// Follows every case at once. Were the case's end misjudged, this would be taken for a request of its
/// own, or a part of it.
const NEXT: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: next.test\r\n\r\n";

struct Case {
    name: &'static str,
    bytes: &'static [u8],
    /// Any of these.
    statuses: &'static [u16],
}

const fn case(name: &'static str, bytes: &'static [u8], statuses: &'static [u16]) -> Case {
    Case { name, bytes, statuses }
}

/// A gateway in front of an endpoint that records every byte, reads strictly, and counts the requests
/// that were complete.
struct Bench {
    gateway: Gateway,
    endpoint: RawEndpoint,
    complete: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let complete = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&complete);
        let endpoint = RawEndpoint::start(move |wire, _| serve(wire, &counted));
        let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
        Self { gateway, endpoint, complete }
    }

    fn complete(&self) -> usize {
        self.complete.load(Ordering::Acquire)
    }

    fn received(&self) -> usize {
        self.endpoint.received().iter().map(Vec::len).sum()
    }

    /// Whether the request that follows each case got through on its own.
    fn was_smuggled(&self) -> bool {
        self.endpoint.received().iter().any(|bytes| contains(bytes, b"/smuggled"))
    }

    /// Sends the case and what follows it, and reads the one response that it may have.
    fn refusal(&self, case: &Case) -> Result<(), String> {
        let mut client = RawClient::connect(self.gateway.web());
        client.send([case.bytes, NEXT].concat());
        let response = client.try_receive("GET").map_err(|error| format!("no response: {error}"))?;
        if !case.statuses.contains(&response.status) {
            return Err(format!(
                "{} {:?} instead of {:?}",
                response.status,
                response.reason(),
                case.statuses
            ));
        }
        if response.reason().is_none() {
            return Err(format!("{} without a reason", response.status));
        }
        if !client.is_ended() {
            return Err("the connection was not closed".to_owned());
        }
        Ok(())
    }
}

fn serve(wire: &mut Wire, complete: &AtomicUsize) -> io::Result<()> {
    while let Some(mut request) = Request::read_head(wire)? {
        request.read_body(wire)?;
        complete.fetch_add(1, Ordering::AcqRel);
        let length = if request.method == "HEAD" { 0 } else { request.target.len() };
        let body = &request.target[..length];
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
    }
    Ok(())
}

/// Runs every case and reports all that broke their promise.
#[track_caller]
fn run(cases: &[Case], promise: impl Fn(&Case) -> Result<(), String>) {
    let broken: Vec<String> = cases
        .iter()
        .filter_map(|case| promise(case).err().map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(broken.is_empty(), "{} of {} cases:\n{}", broken.len(), cases.len(), broken.join("\n"));
}

#[test]
fn an_ambiguous_head_is_refused_and_no_endpoint_sees_a_byte_of_it() {
    let bench = Bench::new();
    run(heads::CASES, |case| {
        let before = bench.received();
        bench.refusal(case)?;
        if bench.received() != before {
            return Err("the endpoint received something".to_owned());
        }
        Ok(())
    });
    assert_eq!(bench.complete(), 0);
}

#[test]
fn a_broken_body_is_refused_and_no_endpoint_takes_it_for_complete() {
    let bench = Bench::new();
    run(bodies::CASES, |case| {
        bench.refusal(case)?;
        if bench.complete() != 0 {
            return Err("the endpoint took it for complete".to_owned());
        }
        Ok(())
    });
    assert!(!bench.was_smuggled());
    eventually(DEADLINE, "no connection with half a request stays", || bench.endpoint.open() == 0);
}

#[test]
fn a_body_that_ends_too_early_is_never_complete() {
    let bench = Bench::new();
    for head in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = RawClient::connect(bench.gateway.web());
        client.send(format!("POST /case HTTP/1.1\r\nHost: a\r\n{head}"));
        client.wire.finish().expect("the connection is open");
        let response = client.try_receive("POST");
        assert!(response.as_ref().map_or(true, |response| response.status == 400), "{response:?}");
    }
    eventually(DEADLINE, "no connection with half a request stays", || bench.endpoint.open() == 0);
    assert_eq!(bench.complete(), 0);
}

#[test]
fn odd_but_valid_requests_pass_and_their_connection_stays() {
    let bench = Bench::new();
    run(valid::CASES, |case| {
        let mut client = RawClient::connect(bench.gateway.web());
        client.send([case.bytes, b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        for target in ["/case", "/after"] {
            let response = client.try_receive("GET").map_err(|error| format!("{target}: {error}"))?;
            if (response.status, response.text().as_str()) != (200, target) {
                return Err(format!("{target}: {} {:?}", response.status, response.text()));
            }
        }
        Ok(())
    });
}

#[test]
fn framing_fields_in_trailers_go_no_further() {
    let bench = Bench::new();
    for trailer in
        ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: other", "X-Forwarded-For: 203.0.113.7"]
    {
        let mut client = RawClient::connect(bench.gateway.web());
        client.send(format!(
            "POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{trailer}\r\n\r\n"
        ));
        let response = client.receive();
        assert!(matches!(response.status, 200 | 400), "{trailer}: {}", response.status);
    }
    for bytes in bench.endpoint.received() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for trailers in text.split("\r\n0\r\n").skip(1) {
            assert!(trailers.starts_with("\r\n"), "{text:?}");
        }
    }
}

#[test]
fn a_length_that_connection_names_still_frames_its_body() {
    let bench = Bench::new();
    for framing in [
        "Content-Length: 4\r\nConnection: content-length\r\n\r\nGET ",
        "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
    ] {
        let mut client = RawClient::connect(bench.gateway.web());
        client.send(format!("POST /case HTTP/1.1\r\nHost: a\r\n{framing}"));
        client.send(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.receive();
        assert!(matches!(response.status, 200 | 400), "{framing:?}: {}", response.status);
        if response.status == 200 {
            assert_eq!(client.receive().text(), "/after");
        }
    }
}
