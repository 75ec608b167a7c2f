//! TCP listeners.

use std::net::SocketAddr;

use tests::{App, Config, DEADLINE, Gateway, RawClient, RawEndpoint, eventually};

fn gateway(endpoint: SocketAddr) -> Gateway {
    let app = App::new("db").tcp_endpoint("v1", "c1", endpoint);
    let config = Config::new().app(&app).listener("db", &[r#"protocol = "tcp""#, r#"app = "db""#]);
    Gateway::start(&config)
}

#[test]
fn bytes_pass_both_ways_as_they_come() {
    let endpoint = RawEndpoint::start(|wire, _| {
        for _ in 0..3 {
            let ping = wire.exactly(4)?;
            wire.send(&ping)?;
        }
        Ok(())
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    for ping in [b"\x00\x01\x02\xff", b"\r\n\r\n", b"GET "] {
        client.send(ping);
        assert_eq!(client.wire.exactly(4).expect("it comes back"), ping);
    }
    assert!(client.is_ended());
}

#[test]
fn an_end_of_one_direction_leaves_the_other_open() {
    let endpoint = RawEndpoint::start(|wire, _| {
        let mut all = wire.rest()?;
        all.reverse();
        wire.send(&all)
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    let sent: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    client.send(&sent);
    client.wire.finish().expect("the connection is open");
    let mut received = client.wire.rest().expect("the other direction is open");
    received.reverse();
    assert!(received == sent, "{} bytes came back", received.len());
}

#[test]
fn the_endpoint_may_speak_first_and_end_first() {
    let endpoint = RawEndpoint::start(|wire, _| {
        wire.send(b"hello")?;
        wire.finish()?;
        wire.rest().map(|_| ())
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    assert_eq!(client.wire.rest().expect("the connection ends well"), b"hello");
    client.send("bye");
    client.wire.finish().expect("our direction is open");
    eventually(DEADLINE, "the endpoint has read it", || endpoint.connection_with("bye").is_some());
    eventually(DEADLINE, "both sides are closed", || endpoint.open() == 0);
}

#[test]
fn a_client_that_is_reset_resets_nothing_else() {
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let gateway = gateway(endpoint.address());
    let mut staying = RawClient::connect(gateway.listener("db"));
    staying.send("stay");
    let mut leaving = RawClient::connect(gateway.listener("db"));
    leaving.send("leave");
    eventually(DEADLINE, "both arrive", || {
        endpoint.connection_with("stay").is_some() && endpoint.connection_with("leave").is_some()
    });
    leaving.wire.reset_at_end().expect("the connection is open");
    drop(leaving);
    eventually(DEADLINE, "one is closed", || endpoint.open() == 1);
    staying.send("ing");
    eventually(DEADLINE, "the other goes on", || endpoint.connection_with("staying").is_some());
}

#[test]
fn a_connection_that_no_endpoint_takes_is_closed() {
    let endpoint = RawEndpoint::answering("");
    let address = endpoint.address();
    drop(endpoint);
    eventually(DEADLINE, "the endpoint refuses", || std::net::TcpStream::connect(address).is_err());
    let gateway = gateway(address);
    let mut client = RawClient::connect(gateway.listener("db"));
    assert!(client.is_ended());
}
