//! How a gateway ends.

use std::net::TcpStream;

use rustix::process::Signal;
use tests::{Config, DEADLINE, Endpoint, Gate, Gateway, Reply, eventually};

/// An endpoint that answers when the gate is open.
fn patient() -> (Endpoint, Gate) {
    let gate = Gate::default();
    let closed = gate.clone();
    let endpoint = Endpoint::behaving("c1", move |_| {
        closed.pass();
        Reply::ok("finished")
    });
    (endpoint, gate)
}

#[test]
fn a_request_under_way_ends_before_the_gateway_does() {
    let (endpoint, gate) = patient();
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    gateway.signal(Signal::TERM);
    eventually(DEADLINE, "it says that it is not ready", || gateway.admin_get("/ready").status == 503);
    assert_eq!(gateway.admin_get("/live").status, 200);
    eventually(DEADLINE, "nothing new is accepted", || TcpStream::connect(gateway.web()).is_err());
    assert_eq!(gateway.exited(), None);
    gate.open();
    let response = client.receive();
    assert_eq!(response.text(), "finished");
    assert!(response.fields.lists("connection", "close"), "{response:?}");
    assert!(client.is_ended());
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
}

#[test]
fn idle_connections_are_closed() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut used = gateway.connect();
    assert_eq!(used.get("a", "/").status, 200);
    let mut unused = gateway.connect();
    gateway.signal(Signal::TERM);
    assert!(used.is_ended());
    assert!(unused.is_ended());
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    assert!(TcpStream::connect(gateway.web()).is_err());
}

#[test]
fn a_request_that_never_ends_holds_the_gateway_up_for_the_drain_timeout() {
    let (endpoint, gate) = patient();
    let config = Config::in_front_of(endpoint.address()).gateway(r#"drain_timeout = "300ms""#);
    let mut gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    gateway.signal(Signal::TERM);
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (503, Some("shutdown")));
    assert!(client.is_ended());
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    gate.open();
}

#[test]
fn an_interrupt_ends_it_the_same_way() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_gateway_without_work_ends_at_once() {
    let mut gateway = Gateway::start(&Config::new());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_drain_delay_gives_others_time_to_look_elsewhere_before_anything_is_refused() {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).gateway(r#"drain_delay = "2s""#);
    let mut gateway = Gateway::start(&config);
    let mut old = gateway.connect();
    assert_eq!(old.get("a", "/").status, 200);
    gateway.signal(Signal::TERM);
    eventually(DEADLINE, "it says that it is not ready", || gateway.admin_get("/ready").status == 503);
    assert_eq!(old.get("a", "/").text(), "c1");
    assert_eq!(gateway.get("a", "/").text(), "c1");
    assert!(old.is_ended());
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
}
