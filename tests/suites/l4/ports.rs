//! Ports of their own that apps ask for while the gateway runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use serde_json::Value;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Response, Wire, eventually, yields};

const GIVEN: &str = "app_ports = { addresses = [\"127.0.0.0/8\"], ports = [\"20000-29999\"], most = 3 }";

/// An address of the loopback network that no other test has.
fn place(port: u16) -> SocketAddr {
    let pid = std::process::id();
    let [.., high, low] = pid.to_be_bytes();
    let mark = 64 + (pid >> 16) as u8 % 64;
    SocketAddr::from((Ipv4Addr::new(127, mark, high, low), port))
}

fn asking(id: &str, endpoint: &Endpoint, ports: &str) -> App {
    App::new(id).line(&format!("ports = [{ports}]")).tcp_endpoint("v1", "c1", endpoint.address())
}

fn tcp(address: SocketAddr) -> String {
    format!("{{ address = \"{address}\" }}")
}

/// Who answers there.
fn answers(address: SocketAddr) -> io::Result<String> {
    let mut wire = Wire::connect(address, DEADLINE)?;
    wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    Response::read(&mut wire, "GET").map(|response| response.text())
}

fn is_answered_by(address: SocketAddr, who: &str) {
    eventually(DEADLINE, &format!("{who} answers at {address}"), || {
        answers(address).is_ok_and(|name| name == who)
    });
}

fn shown(gateway: &Gateway, app: &str, address: SocketAddr) -> Option<Value> {
    let view = gateway.admin_json("/v1/ports");
    let items = view["items"].as_array().expect("a list");
    items.iter().find(|one| one["app"] == app && one["address"] == address.to_string()).cloned()
}

/// Once it is shown: why the app does not have it.
fn refusal(gateway: &Gateway, app: &str, address: SocketAddr) -> String {
    yields(DEADLINE, "the refusal is shown", || {
        let shown = shown(gateway, app, address)?;
        shown["refused"].as_str().map(str::to_owned)
    })
}

#[test]
fn an_app_has_the_port_that_it_asks_for_and_of_two_the_first_one() {
    let (one, other) = (Endpoint::start("one"), Endpoint::start("other"));
    let (first, second) = (place(20_001), place(20_002));
    let gateway = Gateway::start(&Config::new().gateway(GIVEN).app(&asking("a", &one, &tcp(first))));
    // There from the first moment on.
    assert_eq!(answers(first).unwrap(), "one");
    let both = format!("{}, {}", tcp(first), tcp(second));
    gateway.put_app(&asking("b", &other, &both));
    is_answered_by(second, "other");
    assert_eq!(answers(first).unwrap(), "one");
    let why = refusal(&gateway, "b", first);
    assert!(why.contains("another app has asked for it before"), "{why}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("sluice_app_ports", &[("state", "open")]), 2);
    assert_eq!(metrics.count("sluice_app_ports", &[("state", "refused")]), 1);
    // A connection of somebody else's survives all of it.
    let mut kept = Wire::connect(second, DEADLINE).unwrap();
    gateway.remove_app("a");
    is_answered_by(first, "other");
    assert_eq!(shown(&gateway, "b", first).unwrap()["open"], true);
    kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Response::read(&mut kept, "GET").unwrap().text(), "other");
    gateway.remove_app("b");
    eventually(DEADLINE, "nobody listens any more", || answers(first).is_err() && answers(second).is_err());
}

#[test]
fn datagrams_go_to_the_app_that_asks_for_them() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let app = App::new("dns").udp_endpoint("v1", "c1", socket.local_addr().unwrap());
    let port = place(20_053);
    let app =
        app.line(&format!("ports = [{{ address = \"{port}\", protocol = \"udp\", idle_timeout = \"5s\" }}]"));
    let _gateway = Gateway::start(&Config::new().gateway(GIVEN).app(&app));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(b"question", port).unwrap();
    let mut bytes = [0; 64];
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"question");
    socket.send_to(b"answer", from).unwrap();
    let (length, from) = client.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&b"answer"[..], port));
}

#[test]
fn an_operator_says_what_there_is_to_be_had() {
    let endpoint = Endpoint::start("one");
    let (port, low, taken) = (place(20_003), place(19_999), place(20_004));
    let ports = [tcp(port), tcp(low), tcp(taken)].join(", ");
    let base = Config::new().app(&asking("a", &endpoint, &ports)).listener_at(
        "own",
        &taken.to_string(),
        &["protocol = \"http\""],
    );
    let mut gateway = Gateway::start(&base);
    let why = refusal(&gateway, "a", port);
    assert!(why.contains("gateway.app_ports"), "{why}");
    assert!(answers(port).is_err());
    // Taken up while it runs, and given back.
    assert!(gateway.reconfigure(&base.clone().gateway(GIVEN)));
    is_answered_by(port, "one");
    assert!(refusal(&gateway, "a", low).contains("gateway.app_ports.ports"));
    assert!(refusal(&gateway, "a", taken).contains("a listener of its own"));
    assert!(gateway.reconfigure(&base));
    eventually(DEADLINE, "it is closed", || answers(port).is_err());
}

#[test]
fn a_port_that_somebody_else_has_is_refused_and_harms_nobody() {
    let endpoint = Endpoint::start("one");
    let (port, other) = (place(20_005), place(20_006));
    let holder = std::net::TcpListener::bind(port).unwrap();
    let ports = [tcp(port), tcp(other)].join(", ");
    let gateway = Gateway::start(&Config::new().gateway(GIVEN).app(&asking("a", &endpoint, &ports)));
    assert_eq!(answers(other).unwrap(), "one");
    let why = refusal(&gateway, "a", port);
    assert!(why.contains("in use"), "{why}");
    // It is tried again by itself.
    drop(holder);
    eventually(DEADLINE * 2, "it is opened", || answers(port).is_ok_and(|name| name == "one"));
    // More than there are: the last one waits for its turn.
    let more = [tcp(place(20_007)), tcp(place(20_008))].join(", ");
    gateway.put_app(&asking("b", &endpoint, &more));
    is_answered_by(place(20_007), "one");
    assert!(refusal(&gateway, "b", place(20_008)).contains("gateway.app_ports.most"));
}

#[test]
fn what_is_no_port_is_refused_where_it_is_written() {
    let endpoint = Endpoint::start("one");
    let gateway = Gateway::start(&Config::new().gateway(GIVEN));
    for (ports, wanted) in [
        ("{ address = \"0.0.0.0:5432\" }", "is no address of one host with a port"),
        ("{ address = \"127.0.0.1:0\" }", "is no address of one host with a port"),
        ("{ address = \"127.0.0.1:1\", protocol = \"sctp\" }", "protocol"),
        ("{ address = \"127.0.0.1:1\" }, { address = \"127.0.0.1:1\" }", "stands above already"),
        ("{ port = 1 }", "address"),
    ] {
        gateway.put_app(&asking("a", &endpoint, ports));
        eventually(DEADLINE, "the mistake is told", || {
            let view = gateway.admin_get("/v1/apps?app=a").text() + &gateway.admin_get("/v1/table").text();
            view.contains("ports") && view.contains(wanted)
        });
    }
}
