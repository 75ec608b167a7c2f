//! Responses that are long in bytes, and such that are long in time.

use std::io;

use fastrand::Rng;
use tests::{DEADLINE, Framing, ResponseHead, Wire};

use super::Load;
use crate::soak::endpoint::{SLOW_PIECE, SLOW_PIECES_PER_SECOND};
use crate::soak::pattern::{self, PIECE};
use crate::soak::site::{LONG, host};
use benches::soak::journal::{Kind, What};

/// The longest body that comes as fast as it is read.
const BODY_BYTES: u64 = 4 << 20;

/// With a length, and in chunks: the gateway moves the former past its own memory.
pub fn bodies(load: &Load, rng: &mut Rng) {
    let way = if rng.bool() { "body" } else { "chunks" };
    response(load, Kind::Body, way, rng.u64(..BODY_BYTES), rng.u64(..u64::from(u32::MAX)));
}

/// One piece after a pause, so that some last from one hand-over to the next.
pub fn streams(load: &Load, rng: &mut Rng) {
    let pieces = load.life(rng).as_secs() * SLOW_PIECES_PER_SECOND;
    response(load, Kind::Stream, "slow", pieces * SLOW_PIECE as u64, rng.u64(..u64::from(u32::MAX)));
}

/// A response on a connection of its own.
fn response(load: &Load, kind: Kind, way: &str, length: u64, seed: u64) {
    let since = load.now();
    let target = format!("/{way}/{length}/{seed}");
    let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(LONG));
    let begun = Wire::connect(load.addresses.web, DEADLINE).and_then(|mut wire| {
        wire.send(request.as_bytes())?;
        let head = ResponseHead::read(&mut wire)?;
        Ok((wire, head))
    });
    let (mut wire, head) = match begun {
        Ok(begun) => begun,
        Err(error) => return load.fail(kind, LONG, since, What::unanswered(&error)),
    };
    if head.status != 200 {
        let reason = head.fields.all("x-sluice-reason").first().map(|reason| (*reason).to_owned());
        return load.fail(kind, LONG, since, What::Answer { status: head.status, reason });
    }
    let framing = if way == "body" { Framing::Length } else { Framing::Chunked };
    match read(&mut wire, framing, length, seed) {
        Ok(true) => load.journal.right(kind, length as usize),
        Ok(false) => load.fail(kind, LONG, since, What::Wrong(format!("{target} has other bytes"))),
        Err(error) => load.fail(kind, LONG, since, What::cut(&error)),
    }
}

/// Whether the body is the right one.
fn read(wire: &mut Wire, framing: Framing, length: u64, seed: u64) -> io::Result<bool> {
    let mut read = 0;
    loop {
        let next = match framing {
            Framing::Length => (length - read).min(PIECE as u64) as usize,
            _ => chunk_size(wire)?,
        };
        if next == 0 {
            break;
        }
        let bytes = wire.exactly(next)?;
        if framing != Framing::Length && wire.line()?.as_deref() != Some("") {
            return Ok(false);
        }
        if read + next as u64 > length || !pattern::is_right(seed, read, &bytes) {
            return Ok(false);
        }
        read += next as u64;
    }
    // After the last chunk: no trailers.
    let is_ended = framing == Framing::Length || wire.line()?.as_deref() == Some("");
    Ok(is_ended && read == length)
}

fn chunk_size(wire: &mut Wire) -> io::Result<usize> {
    let line = wire.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    usize::from_str_radix(&line, 16).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line))
}
