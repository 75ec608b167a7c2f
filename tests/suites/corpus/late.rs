//! What bytes in a row cannot show: endpoints that never stop, or come too late.

use tests::{Config, Gate, Gateway, RawClient, RawEndpoint};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

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
