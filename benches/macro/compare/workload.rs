//! What clients do to every peer in turn.

use std::time::Duration;

use anyhow::Context;
use benches::generator::Outcome;

use super::peers::Ports;
use super::{generators, handshakes};

/// One kind of load. `goal` is what Sluice is meant to need at most, as a ratio to nginx in the same round; of
/// the access log, as a ratio to itself without one.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub goal: Option<f64>,
    client: Client,
}

#[derive(Debug)]
enum Client {
    /// HTTP/1.1; a connection asks again when its answer is complete.
    Wrk { door: Door, connections: u32, ask: Ask },
    /// HTTP/2 over TLS, with so many requests under way on every connection.
    H2load { connections: u32, streams: u32 },
    /// A full handshake, one request, and the end of the connection.
    Handshakes { connections: usize },
}

#[derive(Debug, Clone, Copy)]
enum Door {
    Http,
    Https,
    Tcp,
}

#[derive(Debug, Clone, Copy)]
pub enum Ask {
    Get(&'static str),
    /// The same, on a connection that ends after it. wrk resumes its TLS session on the next one.
    GetAndClose(&'static str),
    /// Sends a body of 64 KiB; the answer is small.
    Post64k(&'static str),
}

/// Measured on instances of their own, with and without an access log.
pub const ACCESS_LOG: &str = "access_log";

/// In the order in which they run. The goals are explained in benches/README.md.
pub const WORKLOADS: [Workload; 15] = [
    wrk("keepalive_64", "HTTP/1.1 keepalive, 64 connections", Some(0.95), Door::Http, 64, Ask::Get("/")),
    wrk("keepalive_512", "HTTP/1.1 keepalive, 512 connections", Some(0.95), Door::Http, 512, Ask::Get("/")),
    wrk("tls_keepalive", "TLS 1.3 keepalive, 64 connections", Some(0.8), Door::Https, 64, Ask::Get("/")),
    Workload {
        name: "tls_full",
        title: "a full TLS 1.3 handshake per request, 32 at a time",
        goal: Some(0.5),
        client: Client::Handshakes { connections: 32 },
    },
    wrk(
        "tls_resumed",
        "a resumed TLS 1.3 handshake per request, 32 at a time",
        Some(0.6),
        Door::Https,
        32,
        Ask::GetAndClose("/"),
    ),
    Workload {
        name: "h2",
        title: "HTTP/2 in, HTTP/1.1 out, 10 connections of 100 streams",
        goal: Some(0.7),
        client: Client::H2load { connections: 10, streams: 100 },
    },
    wrk("body_64k", "64 KiB bodies, 16 connections", Some(1.0), Door::Http, 16, Ask::Get("/64k")),
    wrk("body_1m", "1 MiB bodies, 16 connections", Some(0.5), Door::Http, 16, Ask::Get("/1m")),
    wrk("body_1m_tls", "1 MiB bodies over TLS 1.3, 16 connections", None, Door::Https, 16, Ask::Get("/1m")),
    wrk("upload_64k", "64 KiB request bodies, 16 connections", None, Door::Http, 16, Ask::Post64k("/sink")),
    wrk(
        "connection",
        "a connection per request, 64 at a time",
        Some(1.0),
        Door::Http,
        64,
        Ask::GetAndClose("/"),
    ),
    wrk("l4_pingpong", "TCP, small answers, 64 connections", Some(1.0), Door::Tcp, 64, Ask::Get("/")),
    wrk("l4_bulk", "TCP, 1 MiB answers, 16 connections", Some(0.7), Door::Tcp, 16, Ask::Get("/1m")),
    wrk("l4_upload", "TCP, 64 KiB requests, 16 connections", None, Door::Tcp, 16, Ask::Post64k("/sink")),
    wrk(ACCESS_LOG, "keepalive_64 with an access log and without", Some(1.05), Door::Http, 64, Ask::Get("/")),
];

const fn wrk(
    name: &'static str,
    title: &'static str,
    goal: Option<f64>,
    door: Door,
    connections: u32,
    ask: Ask,
) -> Workload {
    Workload { name, title, goal, client: Client::Wrk { door, connections, ask } }
}

impl Workload {
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        let names = || WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.with_context(|| format!("no workload is called {name:?}; there are {}", names()))
    }

    /// Lets the clients loose on the peer behind `ports`.
    ///
    /// # Errors
    /// When they could not tell what they saw.
    pub fn run(&self, ports: &Ports, time: Duration) -> anyhow::Result<Outcome> {
        match self.client {
            Client::Wrk { door, connections, ask } => {
                let (scheme, port) = match door {
                    Door::Http => ("http", ports.http.port()),
                    Door::Https => ("https", ports.https.port()),
                    Door::Tcp => ("http", ports.tcp.port()),
                };
                generators::wrk(scheme, port, connections, ask, time)
            }
            Client::H2load { connections, streams } => {
                generators::h2load(ports.https.port(), connections, streams, time)
            }
            Client::Handshakes { connections } => handshakes::run(ports.https.address(), connections, time),
        }
    }
}
