//! What is not HTTP: bytes over TCP, TLS that passes through or ends here, the PROXY protocol, datagrams.

mod databases;
mod proxy_header;
mod server_names;
mod tcp;
mod termination;
mod udp;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tests::{DEADLINE, Gateway, RawEndpoint, eventually, finish};

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

/// A self-signed certificate for `host` as `{host}.crt`; returned with its key in one PEM.
fn certificate(folder: &Path, host: &str) -> String {
    let (key, chain) = (folder.join(format!("{host}.key")), folder.join(format!("{host}.crt")));
    let report = finish(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &format!("/CN={host}")])
            .args(["-addext", &format!("subjectAltName=DNS:{host}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&chain),
        "",
        DEADLINE,
    );
    assert_eq!(report.code, Some(0), "{}", report.text());
    let read = |path| std::fs::read_to_string(path).expect("openssl wrote it");
    read(&chain) + &read(&key)
}
