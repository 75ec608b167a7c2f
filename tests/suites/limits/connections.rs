//! Connections of a listener and of one address.

use std::net::SocketAddr;

use tests::{Config, DEADLINE, Endpoint, Gateway, RawClient, Response, Wire, eventually};

use crate::{limited, refused};

/// A client with another loopback address.
fn from(source: &str, to: SocketAddr) -> RawClient {
    let source = source.parse().expect("an address");
    RawClient { wire: Wire::connect_from(source, to, DEADLINE).expect("the gateway listens") }
}

/// Whether a request on it is answered; a connection that was refused says so by ending.
fn is_served(client: &mut RawClient) -> bool {
    let sent = client.wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    sent.is_ok() && Response::read(&mut client.wire, "GET").is_ok_and(|response| response.status == 200)
}

#[test]
fn a_listener_has_as_many_as_it_may_over_all_workers() {
    const MOST: usize = 8;
    let endpoint = Endpoint::start("c1");
    let own = ["protocol = \"http\"", "limits = { max_connections = 8 }"];
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).listener("small", &own));
    let small = gateway.listener("small");
    let mut open: Vec<_> = (0..MOST).map(|_| RawClient::connect(small)).collect();
    assert!(open.iter_mut().all(is_served));
    let mut more: Vec<_> = (0..MOST).map(|_| RawClient::connect(small)).collect();
    assert!(!more.iter_mut().any(is_served));
    assert_eq!(refused(&gateway, "connection_limit"), MOST as u64);
    // Everybody else is served, and so is who comes when there is room again.
    assert_eq!(gateway.get("a", "/").status, 200);
    assert!(open.iter_mut().all(is_served));
    open.truncate(MOST / 2);
    eventually(DEADLINE, "there is room again", || is_served(&mut RawClient::connect(small)));
}

#[test]
fn an_address_has_as_many_as_it_may_and_others_are_served() {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).trusting("127.0.0.3");
    let gateway = limited(config, "max_connections_per_client = 5");
    let web = gateway.web();
    let mut open: Vec<_> = (0..5).map(|_| from("127.0.0.2", web)).collect();
    assert!(open.iter_mut().all(is_served));
    assert!(!(0..5).any(|_| is_served(&mut from("127.0.0.2", web))));
    assert_eq!(refused(&gateway, "client_connection_limit"), 5);
    assert!(is_served(&mut gateway.connect()));
    let mut proxied: Vec<_> = (0..20).map(|_| from("127.0.0.3", web)).collect();
    assert!(proxied.iter_mut().all(is_served), "a trusted proxy has many clients");
    open.pop();
    eventually(DEADLINE, "there is room again", || is_served(&mut from("127.0.0.2", web)));
}

#[test]
fn behind_a_proxy_the_client_that_a_header_names_counts() {
    let endpoint = Endpoint::start("c1");
    let lines = [
        "protocol = \"http\"",
        "proxy_protocol = \"required\"",
        "limits = { max_connections_per_client = 3 }",
    ];
    let config = Config::in_front_of(endpoint.address()).trusting("127.0.0.1").listener("behind", &lines);
    let gateway = Gateway::start(&config);
    let named = |client: &str| {
        let mut connection = RawClient::connect(gateway.listener("behind"));
        connection.send(format!("PROXY TCP4 {client} 192.0.2.80 5000 80\r\n"));
        connection
    };
    let mut open: Vec<_> = (0..3).map(|_| named("192.0.2.1")).collect();
    assert!(open.iter_mut().all(is_served));
    assert!(!is_served(&mut named("192.0.2.1")));
    assert!(is_served(&mut named("192.0.2.2")));
    assert_eq!(refused(&gateway, "client_connection_limit"), 1);
}

#[test]
fn a_flood_of_connections_from_one_address_takes_nothing_from_others() {
    const FLOOD: usize = 400;
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address());
    let gateway = limited(config, "max_connections = 200, max_connections_per_client = 100");
    let web = gateway.web();
    let flood =
        crate::honest_during(&gateway, || (0..FLOOD).map(|_| from("127.0.0.9", web)).collect::<Vec<_>>());
    eventually(DEADLINE, "the rest is refused", || refused(&gateway, "client_connection_limit") >= 300);
    assert!(is_served(&mut gateway.connect()));
    drop(flood);
}
