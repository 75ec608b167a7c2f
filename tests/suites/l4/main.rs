//! What is not HTTP: bytes over TCP, TLS that passes through or ends here, the PROXY protocol, datagrams.

mod hashing;
mod ports;
mod proxy_header;
mod server_names;
mod tcp;
mod termination;
mod udp;

use std::net::SocketAddr;

use tests::{DEADLINE, Gateway, RawEndpoint, eventually};

/// An address at which nobody listens.
fn refusing() -> SocketAddr {
    let endpoint = RawEndpoint::answering("");
    let address = endpoint.address();
    drop(endpoint);
    eventually(DEADLINE, "the endpoint refuses", || std::net::TcpStream::connect(address).is_err());
    address
}

/// Bytes that show where they were cut, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// The access log's lines as soon as there are `count`.
fn log_lines(gateway: &Gateway, count: usize) -> Vec<String> {
    let path = gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually(DEADLINE, "the lines are written", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

fn log_entries(gateway: &Gateway, count: usize) -> Vec<serde_json::Value> {
    let parse = |line: &String| serde_json::from_str(line).expect("a line is one JSON value");
    log_lines(gateway, count).iter().map(parse).collect()
}
