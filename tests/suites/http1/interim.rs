//! Responses before the response, and responses before the end of the request.

use tests::{Config, DEADLINE, Gateway, RawEndpoint, eventually};

use crate::{answering, behaving};

#[test]
fn an_expectation_travels_to_the_endpoint_and_its_100_back() {
    let endpoint = RawEndpoint::start(|wire, _| {
        let head = tests::read_head(wire)?.unwrap_or_default();
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("expect: 100-continue")), "{head:?}");
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        wire.exactly(4)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    // Not a byte of the body was sent yet.
    assert_eq!(client.receive_head().status, 100);
    client.send("body");
    assert_eq!(client.receive().text(), "ok");
}

#[test]
fn a_refused_expectation_needs_no_body() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")?;
        wire.rest()?;
        Ok(())
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.status, response.text().as_str()), (417, "no"));
}

#[test]
fn early_hints_reach_the_client() {
    let (gateway, _endpoint) = answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut client = gateway.connect();
    for _ in 0..2 {
        let response = client.get("a", "/");
        assert_eq!(response.text(), "ok");
        let hints: Vec<_> =
            response.interim.iter().map(|head| (head.status, head.fields.get("link"))).collect();
        assert_eq!(hints, [(103, Some("</a.css>")), (103, Some("</b.css>"))]);
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_response() {
    // RFC 9110 section 15.2.
    let (gateway, _endpoint) =
        answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.text().as_str(), response.interim.len()), ("ok", 0));
}

#[test]
fn a_response_that_comes_before_the_end_of_the_request_reaches_the_client() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.exactly(1_000)?;
        wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\n\r\ntoo big")?;
        wire.rest()?;
        Ok(())
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    for _ in 0..2 {
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 2_000]);
        let response = client.receive();
        assert_eq!((response.status, response.text().as_str()), (413, "too big"));
    }
    // Half a request stands on the first connection: nothing else may ever follow it there.
    assert_eq!(endpoint.accepted(), 2);
    drop(gateway);
}

#[test]
fn an_early_response_loses_nothing_when_the_endpoint_stops_reading() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    for _ in 0..5 {
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 10_000]);
        let response = client.receive();
        assert_eq!((response.status, response.text().as_str()), (413, "too big"));
    }
}

#[test]
fn the_rest_of_a_body_after_an_early_response_is_no_request() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")?;
        wire.rest()?;
        Ok(())
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
    assert_eq!(client.receive().status, 403);
    // Either the gateway reads it as the body that it is, or it has closed the connection.
    client.wire.send(smuggled.as_bytes()).ok();
    client.wire.finish().ok();
    assert!(client.is_ended());
    for connection in endpoint.received() {
        assert!(!connection.starts_with(b"GET /smuggled"));
    }
}

#[test]
fn switching_protocols_unasked_is_not_passed_on() {
    let (gateway, _endpoint) =
        answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    let response = gateway.get("a", "/");
    assert_eq!((response.status, response.reason()), (502, Some("upstream_bad_response")));
}

#[test]
fn a_body_that_no_endpoint_reads_does_not_hold_up_its_response() {
    let (gateway, endpoint) = behaving(|_| tests::Reply::ok("ok"));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.open() == 1);
    assert_eq!(client.receive_head().status, 100);
    client.send("body");
    assert_eq!(client.receive().text(), "ok");
}
