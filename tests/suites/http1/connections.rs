//! Which connections stay, and in which order they answer.

use tests::{Config, DEADLINE, Endpoint, Gateway, RawEndpoint, Reply, eventually};

use crate::{behaving, plain};

#[test]
fn a_connection_serves_many_requests() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    for _ in 0..100 {
        assert_eq!(client.get("any.test", "/").text(), "c1");
    }
    assert_eq!(endpoint.requests(), 100);
}

#[test]
fn one_client_connection_needs_one_upstream_connection() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    for _ in 0..50 {
        client.get("any.test", "/");
    }
    assert_eq!(endpoint.accepted(), 1);
}

#[test]
fn upstream_connections_outlive_the_client_connections_that_opened_them() {
    let (gateway, endpoint) = plain();
    for _ in 0..40 {
        assert_eq!(gateway.get("any.test", "/").status, 200);
    }
    // Each of the two workers has a pool of its own.
    assert!(endpoint.accepted() <= 2, "{} connections", endpoint.accepted());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (gateway, _endpoint) = behaving(|request| Reply::ok(request.target.clone()));
    let mut client = gateway.connect();
    let requests: String =
        (0..50).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: any.test\r\n\r\n")).collect();
    client.send(requests);
    for number in 0..50 {
        assert_eq!(client.receive().text(), format!("/{number}"));
    }
}

#[test]
fn pipelined_requests_with_bodies_are_kept_apart() {
    let (gateway, _endpoint) = behaving(|request| Reply::ok(request.body.clone()));
    let mut client = gateway.connect();
    client.send(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none\
         POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour",
    );
    for body in ["one", "two", "", "four"] {
        assert_eq!(client.receive().text(), body);
    }
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_one_request() {
    let (gateway, endpoint) = behaving(|request| Reply::ok(request.body.clone()));
    let mut client = gateway.connect();
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.receive().text(), "abc");
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn connection_close_of_the_client_is_honoured_and_confirmed() {
    let (gateway, _endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let response = client.receive();
    assert_eq!(response.status, 200);
    assert!(response.fields.lists("connection", "close"), "{response:?}");
    assert!(client.is_ended());
}

#[test]
fn connection_close_of_the_endpoint_is_its_own_affair() {
    let (gateway, endpoint) = behaving(|_| {
        Reply::RawThenClose(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec())
    });
    let mut client = gateway.connect();
    for _ in 0..3 {
        let response = client.get("a", "/");
        assert_eq!(response.text(), "ok");
        assert!(!response.fields.lists("connection", "close"), "{response:?}");
    }
    assert_eq!(endpoint.accepted(), 3);
}

#[test]
fn a_pooled_connection_that_the_endpoint_closed_fails_no_request() {
    let endpoint = RawEndpoint::start(|wire, _| {
        // Promises to stay, and goes.
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.get("a", "/").text(), "ok");
        // The script's end closes its side; the next request must not meet that connection.
        eventually(DEADLINE, "the endpoint has closed", || endpoint.open() == 0);
    }
}

#[test]
fn http_1_0_connections_close_after_one_response() {
    let (gateway, _endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive().text(), "c1");
    assert!(client.is_ended());
}

#[test]
fn http_1_0_connections_stay_when_the_client_asks_for_it() {
    let (gateway, _endpoint) = plain();
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let response = client.receive();
        assert_eq!(response.text(), "c1");
        assert!(response.fields.lists("connection", "keep-alive"), "{response:?}");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_leaves_nothing_behind() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.open() == 1);
    drop(client);
    // An incomplete request must never look complete, so the connection that carried it has to go.
    eventually(DEADLINE, "the upstream connection is closed", || endpoint.open() == 0);
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_client_that_leaves_before_its_response_releases_the_endpoint() {
    let (gateway, endpoint) = behaving(|_| Reply::Hang);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    client.wire.reset_at_end().expect("the connection is open");
    drop(client);
    eventually(DEADLINE, "the upstream connection is closed", || endpoint.open() == 0);
}

#[test]
fn a_client_that_half_closes_after_its_request_still_gets_the_response() {
    let (gateway, _endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire.finish().expect("the connection is open");
    assert_eq!(client.receive().text(), "c1");
    assert!(client.is_ended());
}

#[test]
fn an_endpoint_that_refuses_connections_is_a_502() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    endpoint.stop();
    eventually(DEADLINE, "the endpoint refuses", || {
        std::net::TcpStream::connect(endpoint.address()).is_err()
    });
    let response = gateway.get("a", "/");
    assert_eq!((response.status, response.reason()), (502, Some("connect_failed")), "{}", response.text());
}

#[test]
fn an_endpoint_that_goes_away_before_its_response_is_a_502() {
    for reply in [|| Reply::Close, || Reply::Reset] {
        let (gateway, _endpoint) = behaving(move |_| reply());
        // A write is never sent twice, so its failure is the client's to see.
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let response = client.receive();
        assert_eq!(
            (response.status, response.reason()),
            (502, Some("upstream_reset")),
            "{}",
            response.text()
        );
    }
}

#[test]
fn connections_at_once_never_mix_their_bodies() {
    let (gateway, _endpoint) = behaving(|request| Reply::ok(request.body.clone()));
    let clients: Vec<_> = (0..16_usize)
        .map(|number| {
            let mut client = gateway.connect();
            std::thread::spawn(move || {
                for round in 0..40_usize {
                    // Its own bytes and its own lengths, from none to several buffers.
                    let body = vec![number as u8; (number * 7_919 + round * 104_729) % 150_000];
                    client
                        .send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
                    client.send(&body);
                    assert!(client.receive().body == body, "client {number}, round {round}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every client gets its own bytes back");
    }
}
