//! Clients that want the gateway to work, wait or remember for nothing. All come from other addresses than the load.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tests::{DEADLINE, ResponseHead, Wire};

use super::Trouble;
use crate::soak::site::{VICTIM, host};

/// Connections with a head that never ends, and with a body.
const SLOW: usize = 100;
/// Connections that ask for an endless response and take none of it.
const DEAF: usize = 12;
/// A response must be taken at a rate over any 60 seconds; after that they are cut, and ask again.
const DEAF_DEADLINE: Duration = Duration::from_secs(100);
/// From one flood to the next: each takes a worker as much time as it takes to be told from a client.
const FLOOD_PAUSE: Duration = Duration::from_secs(5);
/// Repetitions of one flood: far more than are read of it.
const FLOOD_MOST: u32 = 400_000;
const MALFORMED_PAUSE: Duration = Duration::from_millis(200);

/// What is no request, or one that two readers could understand differently.
const MALFORMED: &[&str] = &[
    "\0\0\0\0\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "GET /\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: victim.soak.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
];

pub fn start(trouble: &Arc<Trouble>, rng: &mut Rng) -> io::Result<Vec<JoinHandle<()>>> {
    let spawn = |attack: fn(&Trouble, &mut Rng)| {
        let (trouble, mut rng) = (Arc::clone(trouble), rng.fork());
        thread::Builder::new().spawn(move || attack(&trouble, &mut rng))
    };
    [slow_heads, slow_bodies, floods, malformed, deaf].into_iter().map(spawn).collect()
}

fn slow_heads(trouble: &Trouble, rng: &mut Rng) {
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nX-A: ", host(VICTIM));
    slow(trouble, rng, "127.0.0.66", &head, "slow head");
}

fn slow_bodies(trouble: &Trouble, rng: &mut Rng) {
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000\r\n\r\n", host(VICTIM));
    slow(trouble, rng, "127.0.0.67", &head, "slow body");
}

/// Many connections with a byte a second each; who is cut off comes back.
fn slow(trouble: &Trouble, rng: &mut Rng, from: &str, begin: &str, what: &'static str) {
    let is_head = !begin.ends_with("\r\n\r\n");
    let mut open: Vec<Option<Wire>> = (0..SLOW).map(|_| None).collect();
    while trouble.pause(rng, Duration::from_secs(1)) {
        for slot in &mut open {
            let is_sent = slot.as_mut().is_some_and(|wire| wire.send(b"x").is_ok());
            if is_sent {
                continue;
            }
            // Whoever asks too often may be refused: that is the point.
            *slot = connect(trouble, from).ok();
            trouble.journal.event(what);
            if let Some(wire) = slot {
                // A head begins with its first bytes; the rest never comes.
                let first = if is_head { &begin[..rng.usize(1..begin.len())] } else { begin };
                wire.send(first.as_bytes()).ok();
            }
        }
    }
}

fn connect(trouble: &Trouble, from: &str) -> io::Result<Wire> {
    let from: IpAddr = from.parse().map_err(io::Error::other)?;
    Wire::connect_from(from, trouble.addresses.web, DEADLINE)
}

fn malformed(trouble: &Trouble, rng: &mut Rng) {
    while trouble.pause(rng, MALFORMED_PAUSE) {
        let bytes = MALFORMED[rng.usize(..MALFORMED.len())];
        trouble.journal.event("malformed bytes");
        let asked = connect(trouble, "127.0.0.68").and_then(|mut wire| {
            wire.send(bytes.as_bytes())?;
            wire.finish()?;
            ResponseHead::read(&mut wire)
        });
        // Refused by an answer or by the end of the connection; of the binary preface by frames, which are no head.
        if asked.is_ok_and(|head| head.status < 400) {
            trouble.journal.broken(format!("{bytes:?} was taken for a request"));
        }
    }
}

/// Asks for what has no end and reads none of it.
fn deaf(trouble: &Trouble, rng: &mut Rng) {
    let mut open: Vec<(Wire, Instant)> = Vec::new();
    while trouble.pause(rng, Duration::from_secs(1)) {
        open.retain(|(_, since)| since.elapsed() < DEAF_DEADLINE);
        while open.len() < DEAF {
            let Ok(mut wire) = connect(trouble, "127.0.0.69") else { break };
            let asked = format!("GET /endless HTTP/1.1\r\nHost: {}\r\n\r\n", host(VICTIM));
            wire.send(asked.as_bytes()).ok();
            trouble.journal.event("client that never reads");
            open.push((wire, Instant::now()));
        }
    }
}

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// What is sent again and again, by its number.
const FLOODS: &[fn(u32) -> Vec<u8>] = &[
    |_| frame(PING, 0, 0, &[7; 8]),
    |_| frame(SETTINGS, 0, 0, &[]),
    |number| frame(PRIORITY, 0, 3, &[0, 0, 0, (number % 2 * 4 + 1) as u8, 1]),
    // Rapid reset (CVE-2023-44487).
    |number| {
        let id = 2 * number + 1;
        [get(id), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
    },
    // MadeYouReset (CVE-2025-8671).
    |number| {
        let id = 2 * number + 1;
        [get(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    },
];

/// One after the other, each from an address of its own: who has flooded is kept out for a while.
fn floods(trouble: &Trouble, rng: &mut Rng) {
    for number in 1_u32.. {
        if !trouble.pause(rng, FLOOD_PAUSE) {
            break;
        }
        let [.., high, low] = number.to_be_bytes();
        let repeat = FLOODS[rng.usize(..FLOODS.len())];
        trouble.journal.event("HTTP/2 flood");
        if let Ok(wire) = connect(trouble, &format!("127.66.{high}.{low}"))
            && !is_cut_off(trouble, wire, repeat)
        {
            trouble.journal.broken("a flood was not cut off".to_owned());
        }
    }
}

fn is_cut_off(trouble: &Trouble, mut wire: Wire, repeat: fn(u32) -> Vec<u8>) -> bool {
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    let mut sent = wire.send(&preface);
    for batch in (0..FLOOD_MOST).step_by(100) {
        if sent.is_err() || trouble.is_over() {
            return true;
        }
        let bytes: Vec<u8> = (batch..batch + 100).flat_map(repeat).collect();
        sent = wire.send(&bytes);
    }
    // All of it may lie in the sockets' buffers: then nobody has read what came after the cut.
    loop {
        match wire.some() {
            Ok(bytes) if bytes.is_empty() => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// `GET /` by indexes of the static table (RFC 7541), with an authority.
fn get(stream: u32) -> Vec<u8> {
    let authority = host(VICTIM);
    let mut block = vec![0x82, 0x86, 0x84, 1, authority.len() as u8];
    block.extend_from_slice(authority.as_bytes());
    frame(HEADERS, 5, stream, &block)
}

/// RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
