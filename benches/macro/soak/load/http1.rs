//! Short requests: on connections that stay, on one each, and with bodies.

use std::io;
use std::time::Duration;

use fastrand::Rng;
use tests::{DEADLINE, Response, Wire};

use super::Load;
use crate::soak::pattern;
use crate::soak::site::{SHORT, host};
use benches::soak::journal::{Kind, What};

/// The longest body of a POST.
const BODY_BYTES: usize = 256 << 10;
/// Of a body that is sent in pieces, each.
const CHUNK_BYTES: usize = 20_000;

/// A connection, until the gateway says that it closes it.
pub fn keepalive(load: &Load, rng: &mut Rng) {
    let since = load.now();
    let mut wire = match Wire::connect(load.addresses.web, DEADLINE) {
        Ok(wire) => wire,
        Err(error) => return load.fail(Kind::Keepalive, SHORT[0], since, What::unanswered(&error)),
    };
    while !load.is_stopped() {
        let app = SHORT[rng.usize(..SHORT.len())];
        if !get(load, &mut wire, Kind::Keepalive, app, rng.u64(..), "") {
            return;
        }
    }
}

/// A connection and one request on it.
pub fn connections(load: &Load, rng: &mut Rng) {
    let (app, since) = (SHORT[rng.usize(..SHORT.len())], load.now());
    match Wire::connect(load.addresses.web, DEADLINE) {
        Ok(mut wire) => {
            get(load, &mut wire, Kind::Connection, app, rng.u64(..), "Connection: close\r\n");
        }
        Err(error) => load.fail(Kind::Connection, app, since, What::unanswered(&error)),
    }
}

/// Whether the connection stays.
fn get(load: &Load, wire: &mut Wire, kind: Kind, app: &'static str, token: u64, fields: &str) -> bool {
    let since = load.now();
    let request = format!("GET /token/{token} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", host(app));
    let exchanged = wire.send(request.as_bytes()).and_then(|()| Response::read(wire, "GET"));
    judge(load, kind, app, since, exchanged, &format!("{app} {token}"))
}

/// Whether the connection stays.
fn judge(
    load: &Load,
    kind: Kind,
    app: &'static str,
    since: Duration,
    exchanged: io::Result<Response>,
    wanted: &str,
) -> bool {
    let response = match exchanged {
        Ok(response) => response,
        Err(error) => {
            load.fail(kind, app, since, What::unanswered(&error));
            return false;
        }
    };
    if response.status != 200 {
        load.fail(kind, app, since, What::of(&response));
    } else if response.body != wanted.as_bytes() {
        load.fail(kind, app, since, What::Wrong(format!("{:?} and not {wanted:?}", response.text())));
    } else {
        load.journal.right(kind, response.body.len());
    }
    !response.fields.lists("connection", "close")
}

/// Bodies of all sizes, whose hash the endpoint sends back; on a connection until it is closed.
pub fn posts(load: &Load, rng: &mut Rng) {
    let since = load.now();
    let mut wire = match Wire::connect(load.addresses.web, DEADLINE) {
        Ok(wire) => wire,
        Err(error) => return load.fail(Kind::Post, SHORT[0], since, What::unanswered(&error)),
    };
    while !load.is_stopped() {
        let (app, since) = (SHORT[rng.usize(..SHORT.len())], load.now());
        let body = pattern::whole(rng.u64(..), rng.usize(..BODY_BYTES));
        let sent = send_post(&mut wire, &host(app), &body, rng.bool());
        // An answer may come before the whole body has left, and the connection's end after it.
        let exchanged = Response::read(&mut wire, "POST").map_err(|error| sent.err().unwrap_or(error));
        let wanted = format!("{app} {:016x} {}", pattern::hash(&body), body.len());
        if !judge(load, Kind::Post, app, since, exchanged, &wanted) {
            return;
        }
    }
}

fn send_post(wire: &mut Wire, host: &str, body: &[u8], is_chunked: bool) -> io::Result<()> {
    let head = format!("POST /sum HTTP/1.1\r\nHost: {host}\r\n");
    if !is_chunked {
        wire.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
        return wire.send(body);
    }
    wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
    for chunk in body.chunks(CHUNK_BYTES) {
        wire.send(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        wire.send(chunk)?;
        wire.send(b"\r\n")?;
    }
    wire.send(b"0\r\n\r\n")
}
