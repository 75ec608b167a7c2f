//! One process after the other on the same sockets; and the service manager around them.

mod drains;
mod failures;
mod load;
mod peers;
mod sockets;
mod supervised;
mod traffic;
mod units;
mod upgrade;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawClient, RawEndpoint, eventually};

/// An endpoint that sends back what it gets; after a WebSocket's handshake, if one comes first.
fn echo() -> RawEndpoint {
    RawEndpoint::start_unrecorded(|wire, _| {
        let first = wire.some()?;
        if first.starts_with(b"GET ") {
            wire.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
        } else {
            wire.send(&first)?;
        }
        loop {
            let bytes = wire.some()?;
            if bytes.is_empty() {
                return Ok(());
            }
            wire.send(&bytes)?;
        }
    })
}

/// A connection that was switched to WebSocket at `host`.
#[track_caller]
fn websocket(gateway: &Gateway, host: &str) -> RawClient {
    let mut client = gateway.connect();
    client.send(format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(client.receive_head().status, 101);
    client
}

#[track_caller]
fn assert_echoes(client: &mut RawClient) {
    client.send("ping");
    assert_eq!(client.wire.exactly(4).expect("the tunnel is open"), b"ping");
}

/// A gateway with a web listener for `endpoint` and one for TCP in front of `echo`, which also answers
/// WebSockets at "ws.test".
fn config(endpoint: &Endpoint, echo: &RawEndpoint) -> Config {
    let app = |id: &str| App::new(id).tcp_endpoint("v1", "c1", echo.address());
    Config::in_front_of(endpoint.address())
        .app(&app("db"))
        .app(&App::new("ws").host("ws.test").endpoint("v1", "c1", echo.address()))
        .listener("db", &[r#"protocol = "tcp""#, r#"app = "db""#])
        .handover()
}

fn tunnel(gateway: &Gateway) -> RawClient {
    let mut client = RawClient::connect(gateway.listener("db"));
    assert_echoes(&mut client);
    client
}

fn failures(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_handovers_total", &[("result", "failed")])
}

/// That the process `pid` serves as it did, and nothing is under way.
#[track_caller]
fn assert_goes_on(gateway: &Gateway, pid: u32) {
    assert_eq!(gateway.admin_json("/v1/process")["pid"], pid);
    eventually(DEADLINE, "the registry is open", || {
        gateway.metrics().count("sluice_registry_connected", &[]) == 1
    });
    for _ in 0..8 {
        assert_eq!(gateway.get("a", "/").status, 200);
    }
}
