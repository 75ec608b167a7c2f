//! Endpoints that can die and come back, and say in every answer who they are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tests::{Request, Server, Wire};

use super::pattern::{self, PIECE};
use super::streams::Streams;

/// Of a slow stream: what it sends at a time, and how long it waits before the next.
pub const SLOW_PIECE: usize = 16 << 10;
pub const SLOW_PIECES_PER_SECOND: u64 = 20;
const SLOW_PAUSE: Duration = Duration::from_millis(1_000 / SLOW_PIECES_PER_SECOND);

/// What is behind a listener's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
    Bytes,
}

/// What dies when it is dropped: refuses connections and cuts those that are open.
enum Life {
    Threads { _server: Server },
    Streams { _server: Streams },
}

/// One instance of an app.
pub struct Instance {
    app: &'static str,
    number: usize,
    speaks: Speaks,
    address: SocketAddr,
    /// `None` while it is dead.
    life: Mutex<Option<Life>>,
}

impl Instance {
    /// At an address that nobody else uses: on 127.0.0.1, while it is dead, a client's own socket could get its
    /// port.
    pub fn start(app: &'static str, number: usize, speaks: Speaks) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = IpAddr::from([127, 1, 0, NEXT.fetch_add(1, Ordering::Relaxed)]);
        let (life, address) = live(app, number, speaks, SocketAddr::new(host, 0));
        Self { app, number, speaks, address, life: Mutex::new(Some(life)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections and cuts those that are open.
    pub fn die(&self) {
        drop(super::lock(&self.life).take());
    }

    pub fn come_back(&self) {
        let (life, _) = live(self.app, self.number, self.speaks, self.address);
        *super::lock(&self.life) = Some(life);
    }
}

/// Where it lives, too.
fn live(app: &'static str, number: usize, speaks: Speaks, address: SocketAddr) -> (Life, SocketAddr) {
    if speaks == Speaks::Http2 {
        let server = Streams::start(app, address);
        let address = server.address();
        return (Life::Streams { _server: server }, address);
    }
    let server = Server::start(address, move |stream, _| {
        // Who asks may leave at any time, and the endpoint may be dying.
        let _ = Wire::new(stream).and_then(|mut wire| match speaks {
            Speaks::Bytes => echo(&mut wire),
            _ => http(&mut wire, app, number),
        });
    });
    let address = server.address();
    (Life::Threads { _server: server }, address)
}

fn echo(wire: &mut Wire) -> io::Result<()> {
    loop {
        let bytes = wire.some()?;
        if bytes.is_empty() {
            return Ok(());
        }
        wire.send(&bytes)?;
    }
}

fn http(wire: &mut Wire, app: &str, number: usize) -> io::Result<()> {
    while let Some(mut request) = Request::read_head(wire)? {
        let who = format!("x-instance: {app}-{number}\r\n");
        if !request.fields.all("upgrade").is_empty() {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            wire.send(format!("{head}{who}\r\n").as_bytes())?;
            return echo(wire);
        }
        request.read_body(wire)?;
        answer(wire, &request, &format!("HTTP/1.1 200 OK\r\n{who}"), app)?;
        if request.fields.lists("connection", "close") {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(wire: &mut Wire, request: &Request, head: &str, app: &str) -> io::Result<()> {
    let parts: Vec<&str> = request.target.split('/').skip(1).collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse().ok()).unwrap_or(0);
    match parts.first().copied() {
        Some("token") => short(wire, head, &format!("{app} {}", number(1))),
        Some("sum") => {
            let sum = pattern::hash(&request.body);
            short(wire, head, &format!("{app} {sum:016x} {}", request.body.len()))
        }
        Some("body") => long(wire, head, number(1), number(2)),
        Some("chunks") => chunks(wire, head, number(1), number(2), None),
        Some("slow") => chunks(wire, head, number(1), number(2), Some(SLOW_PAUSE)),
        Some("endless") => {
            wire.send(format!("{head}\r\n").as_bytes())?;
            loop {
                wire.send(pattern::piece(0, 0, PIECE))?;
            }
        }
        _ => short(wire, head, app),
    }
}

fn short(wire: &mut Wire, head: &str, body: &str) -> io::Result<()> {
    wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn long(wire: &mut Wire, head: &str, length: u64, seed: u64) -> io::Result<()> {
    wire.send(format!("{head}content-length: {length}\r\n\r\n").as_bytes())?;
    let mut sent = 0;
    while sent < length {
        let left = usize::try_from(length - sent).unwrap_or(PIECE);
        let piece = pattern::piece(seed, sent, left);
        wire.send(piece)?;
        sent += piece.len() as u64;
    }
    Ok(())
}

fn chunks(wire: &mut Wire, head: &str, length: u64, seed: u64, pause: Option<Duration>) -> io::Result<()> {
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
    let mut sent = 0;
    while sent < length {
        let most = if pause.is_some() { SLOW_PIECE } else { PIECE };
        let left = usize::try_from(length - sent).unwrap_or(PIECE).min(most);
        let piece = pattern::piece(seed, sent, left);
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        wire.send(&chunk)?;
        sent += piece.len() as u64;
        pause.into_iter().for_each(std::thread::sleep);
    }
    wire.send(b"0\r\n\r\n")
}
