//! Each phase of a request has its own time, and says so when that has passed.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawClient, RawEndpoint, Reply, eventually};

/// Between two drops of a sender that is slow and not silent: far below the 500 ms that tests allow for a
/// silence.
const DRIP: Duration = Duration::from_millis(50);

/// One app with these `[timeouts]`, in front of one endpoint.
fn gateway(timeouts: &str, address: SocketAddr) -> Gateway {
    let app = App::everything(address).line(&format!("timeouts = {{ {timeouts} }}"));
    Gateway::start(&Config::new().app(&app))
}

fn failures(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metrics().count("sluice_requests_total", &[("reason", reason), ("status", "5xx")])
}

/// The client was cut off, and the reason is counted.
#[track_caller]
fn assert_cut(gateway: &Gateway, client: &mut RawClient, reason: &str) {
    let error = client.try_receive("GET").expect_err("a cut response is no whole one");
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection stays open");
    eventually(DEADLINE, "the reason is counted", || failures(gateway, reason) == 1);
}

/// Listens, and accepts nothing: what comes after the first connection is not even shaken hands with.
struct Full {
    socket: Socket,
    _waiting: Vec<TcpStream>,
}

impl Full {
    fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has a port");
        socket.listen(0).expect("a bound socket listens");
        let mut full = Self { socket, _waiting: Vec::new() };
        while let Ok(waiting) = TcpStream::connect_timeout(&full.address(), Duration::from_millis(300)) {
            full._waiting.push(waiting);
        }
        full
    }

    fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("it is IPv4")
    }
}

#[test]
fn an_endpoint_that_does_not_take_a_connection_is_a_connect_timeout() {
    let endpoint = Full::start();
    let gateway = gateway(r#"connect = "200ms""#, endpoint.address());
    let response = gateway.get("a", "/");
    assert_eq!((response.status, response.reason()), (504, Some("connect_timeout")));
}

#[test]
fn an_endpoint_that_shakes_no_hands_is_a_connect_timeout() {
    // TCP stands at once; HTTP/2's settings never come.
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let app = App::new("all").host("*").http2_endpoint("v1", "c1", endpoint.address());
    let gateway = Gateway::start(&Config::new().app(&app.line(r#"timeouts = { connect = "200ms" }"#)));
    let response = gateway.get("a", "/");
    assert_eq!((response.status, response.reason()), (504, Some("connect_timeout")));
}

#[test]
fn an_endpoint_that_does_not_answer_is_an_upstream_timeout() {
    let endpoint = Endpoint::behaving("c1", |_| Reply::Hang);
    let gateway = gateway(r#"first_byte = "200ms""#, endpoint.address());
    for method in ["GET", "POST"] {
        let mut client = gateway.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let response = client.receive();
        assert_eq!((response.status, response.reason()), (504, Some("upstream_timeout")));
    }
    assert_eq!(endpoint.requests(), 2, "nobody asked for retries");
    eventually(DEADLINE, "it is no longer waited for", || endpoint.open() == 0);
}

#[test]
fn an_endpoint_is_not_late_before_it_has_the_whole_request() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.body.clone()));
    let gateway = gateway(r#"first_byte = "300ms""#, endpoint.address());
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    for drop in ["s", "l", "o", "w", "l", "y"] {
        std::thread::sleep(DRIP * 3);
        client.send(drop);
    }
    assert_eq!(client.receive().text(), "slowly");
}

#[test]
fn an_endpoint_that_stops_within_its_response_is_stalled() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let endpoint = RawEndpoint::answering(half);
    let gateway = gateway(r#"between_bytes = "200ms""#, endpoint.address());
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_cut(&gateway, &mut client, "upstream_stalled");
}

/// A response that never ends and never stops.
fn dripping() -> RawEndpoint {
    RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            wire.send(b"drop")?;
            std::thread::sleep(DRIP);
        }
    })
}

#[test]
fn a_request_takes_no_longer_than_its_app_allows_whatever_it_waits_for() {
    let silent = Endpoint::behaving("c1", |_| Reply::Hang);
    let one = gateway(r#"request = "400ms""#, silent.address());
    let response = one.get("a", "/");
    assert_eq!((response.status, response.reason()), (504, Some("request_timeout")));
    // The client is who is slow, and has been told how long it has.
    let mut client = one.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (504, Some("request_timeout")));
    // No connection comes about.
    let full = Full::start();
    let one = gateway(r#"request = "400ms""#, full.address());
    let response = one.get("a", "/");
    assert_eq!((response.status, response.reason()), (504, Some("request_timeout")));
}

#[test]
fn a_response_that_flows_for_too_long_is_cut() {
    let endpoint = dripping();
    let gateway = gateway(r#"request = "400ms", between_bytes = "300ms""#, endpoint.address());
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_cut(&gateway, &mut client, "request_timeout");
    eventually(DEADLINE, "the endpoint is left", || endpoint.open() == 0);
}

#[test]
fn the_time_of_one_request_is_not_the_next_ones() {
    let endpoint = Endpoint::start("c1");
    let gateway = gateway(r#"request = "500ms""#, endpoint.address());
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("a", "/").text(), "c1");
        std::thread::sleep(DRIP * 5);
    }
}

#[test]
fn an_idle_tunnel_ends_when_its_app_says() {
    const SWITCHED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(SWITCHED.as_bytes())?;
        wire.rest().map(|_| ())
    });
    // A tunnel is no request any more.
    let gateway = gateway(r#"tunnel_idle = "1s", request = "300ms""#, endpoint.address());
    let mut client = gateway.connect();
    client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.receive_head().status, 101);
    assert!(client.is_ended());
    eventually(DEADLINE, "the reason is counted", || failures(&gateway, "tunnel_timeout") == 1);
}

#[test]
fn a_kept_connection_is_given_up_when_its_app_says() {
    let endpoint = Endpoint::start("c1");
    let gateway = gateway(r#"upstream_idle = "1s""#, endpoint.address());
    assert_eq!(gateway.get("a", "/").text(), "c1");
    eventually(DEADLINE, "the connection is closed", || endpoint.open() == 0);
}

#[test]
fn a_gateway_that_stops_does_not_wait_for_an_apps_timeouts() {
    let endpoint = Endpoint::behaving("c1", |_| Reply::Hang);
    let app = App::everything(endpoint.address()).line(r#"timeouts = { request = "1h" }"#);
    let config = Config::new().app(&app).gateway(r#"drain_timeout = "300ms""#);
    let mut gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    gateway.signal(Signal::TERM);
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (503, Some("shutdown")));
    assert!(gateway.wait(DEADLINE).success());
}
