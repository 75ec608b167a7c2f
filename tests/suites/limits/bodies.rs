//! Bodies that are too large.

use std::io::ErrorKind;

use tests::{App, Config, DEADLINE, Endpoint, RawEndpoint, contains, eventually};

use crate::limited;

fn counted(gateway: &tests::Gateway) -> u64 {
    gateway.metrics().count("sluice_requests_total", &[("reason", "body_too_large"), ("status", "4xx")])
}

#[test]
fn what_announces_too_much_is_refused_before_an_endpoint_hears_of_it() {
    let endpoint = Endpoint::start("c1");
    let gateway = limited(Config::in_front_of(endpoint.address()), "max_body = \"1KiB\"");
    for expects in ["", "Expect: 100-continue\r\n"] {
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{expects}Content-Length: 1025\r\n\r\n"));
        let response = client.receive();
        assert_eq!((response.status, response.reason()), (413, Some("body_too_large")));
        assert!(response.interim.is_empty());
    }
    // An answer is counted once it has been sent.
    eventually(DEADLINE, "both are counted", || counted(&gateway) == 2);
    assert_eq!(endpoint.requests(), 0);
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)));
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().body.len(), 1024);
}

#[test]
fn what_announces_nothing_is_counted_while_it_comes_and_never_ends_at_the_endpoint() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.rest().map(drop)
    });
    let gateway = limited(Config::in_front_of(endpoint.address()), "max_body = \"4KiB\"");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    for _ in 0..4 {
        client.send(&chunk);
    }
    client.send("1\r\ny\r\n0\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (413, Some("body_too_large")));
    eventually(DEADLINE, "it is counted", || counted(&gateway) == 1);
    eventually(DEADLINE, "the endpoint's connection is closed", || endpoint.open() == 0);
    let received = endpoint.received().concat();
    assert!(!contains(&received, b"y") && !contains(&received, b"0\r\n\r\n"), "it took the body for whole");
}

#[test]
fn an_app_may_take_less_than_its_listener_and_never_more() {
    let endpoint = Endpoint::start("c1");
    let app = |id: &str, limit: &str| {
        let app = App::new(id).host(&format!("{id}.test")).endpoint("v1", "c1", endpoint.address());
        app.line(&format!("limits = {{ max_body = \"{limit}\" }}"))
    };
    let config = Config::new().app(&app("small", "8B")).app(&app("large", "1GiB"));
    let gateway = limited(config, "max_body = \"16B\"");
    for (host, length, wanted) in
        [("small", 8, 200), ("small", 9, 413), ("large", 16, 200), ("large", 17, 413)]
    {
        let mut client = gateway.connect();
        let body = "x".repeat(length);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {host}.test\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(client.receive().status, wanted, "{host} {length}");
    }
}

#[test]
fn an_answer_that_has_begun_is_cut_when_the_body_grows_too_large() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")?;
        wire.rest().map(drop)
    });
    let gateway = limited(Config::in_front_of(endpoint.address()), "max_body = \"1KiB\"");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    assert_eq!(client.receive_head().status, 200);
    // The connection may be gone before all of it is sent.
    let _ = client.wire.send(format!("800\r\n{}\r\n", "x".repeat(2048)).as_bytes());
    let ended = client.wire.exactly(10).expect_err("the answer is not whole");
    assert!(matches!(ended.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{ended}");
}
