//! Clients that are slow on purpose, in both directions.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tests::{Config, DEADLINE, Endpoint, Gateway, RawEndpoint, Response, eventually};

use crate::{honest_during, is_long, lasting, limited};

/// Well above the twenty seconds in which a body has to have come as far as it should.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

#[test]
fn a_body_that_comes_byte_by_byte_is_a_408() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.wire.limit(PAUSE).expect("the connection is open");
    let start = Instant::now();
    let response = loop {
        match Response::read(&mut client.wire, "POST") {
            Ok(response) => break response,
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < BODY_DEADLINE => {
                client.send("x");
            }
            Err(error) => panic!("no response after {:?}: {error}", start.elapsed()),
        }
    };
    assert_eq!((response.status, response.reason()), (408, Some("body_too_slow")));
    assert_eq!(endpoint.requests(), 0);
    assert_eq!(gateway.metrics().count("sluice_requests_total", &[("reason", "body_too_slow")]), 1);
}

#[test]
fn a_slow_endpoint_is_not_held_against_its_client() {
    // Longer than the window of a body's rate: nothing moves, and it is not the client's doing.
    const ENDPOINT_SLEEPS: Duration = Duration::from_secs(22);
    const BODY: usize = 64 << 20;
    let endpoint = RawEndpoint::start_unrecorded(|wire, _| {
        tests::read_head(wire)?;
        std::thread::sleep(ENDPOINT_SLEEPS);
        wire.discard(BODY as u64)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.wire.limit(BODY_DEADLINE).expect("the connection is open");
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n"));
    client.send(vec![b'x'; BODY]);
    assert_eq!(client.receive().status, 200);
}

/// The issue's own attack: many connections, each with a byte a second.
#[test]
fn hundreds_of_clients_that_send_a_byte_a_second_cost_nobody_anything() {
    let (count, header_timeout) = if is_long() { (2_000, "10s") } else { (300, "2s") };
    let length = lasting(Duration::from_secs(5), Duration::from_secs(60));
    let endpoint = Endpoint::start("c1");
    let limits = format!("header_timeout = \"{header_timeout}\"");
    let gateway = limited(Config::in_front_of(endpoint.address()), &limits);
    let open = || gateway.metrics().count("sluice_connections_open", &[("listener", "web")]);
    let web = gateway.web();
    honest_during(&gateway, || {
        let connect = || TcpStream::connect(web).expect("the gateway listens");
        let mut slow: Vec<_> = (0..count).map(|_| connect()).collect();
        let mut text = "GET / HTTP/1.1\r\nHost: a\r\nX-A: ".bytes().chain(std::iter::repeat(b'x'));
        let start = Instant::now();
        while start.elapsed() < length {
            let byte = [text.next().unwrap_or(b'x')];
            for stream in &mut slow {
                // Who was cut off comes back, as an attacker does.
                if std::io::Write::write_all(stream, &byte).is_err() {
                    *stream = connect();
                }
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    eventually(DEADLINE, "none is left", || open() == 0);
    let timeouts = gateway.metrics().count("sluice_requests_total", &[("reason", "header_timeout")]);
    assert!(timeouts >= count as u64, "{timeouts} of {count} were cut off");
}

#[test]
fn clients_that_never_read_cost_nobody_anything() {
    const CLIENTS: usize = 100;
    let endpoint = crate::endless();
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let before = gateway.resident_bytes();
    let clients = honest_during(&gateway, || {
        let ask = || {
            let mut client = gateway.connect();
            client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| ask()).collect();
        eventually(DEADLINE, "all of them are answered", || endpoint.accepted() >= CLIENTS);
        std::thread::sleep(lasting(Duration::from_secs(1), Duration::from_secs(70)));
        clients
    });
    let growth = gateway.resident_bytes().saturating_sub(before);
    // Large buffers and a usual one for each that finds none.
    assert!(growth < 64 << 20, "{growth} bytes");
    if is_long() {
        let aborted = || gateway.metrics().count("sluice_requests_total", &[("reason", "client_abort")]);
        eventually(DEADLINE, "they are cut off", || aborted() >= CLIENTS as u64);
    }
    drop(clients);
}
