//! WebSockets and TCP connections, through which messages go and come back.

use std::io;
use std::time::Instant;

use fastrand::Rng;
use tests::{DEADLINE, ResponseHead, Wire};

use super::Load;
use crate::soak::pattern;
use crate::soak::site::{TCP, WEBSOCKETS, host};
use benches::soak::journal::{Kind, What};

const MESSAGE_BYTES: usize = 8 << 10;
/// Between two messages: tunnels are many and mostly quiet.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

pub fn websocket(load: &Load, rng: &mut Rng) {
    let since = load.now();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        host(WEBSOCKETS)
    );
    let begun = Wire::connect(load.addresses.web, DEADLINE).and_then(|mut wire| {
        wire.send(request.as_bytes())?;
        let head = ResponseHead::read(&mut wire)?;
        Ok((wire, head))
    });
    match begun {
        Ok((mut wire, head)) if head.status == 101 => {
            converse(load, rng, &mut wire, Kind::WebSocket, WEBSOCKETS);
        }
        Ok((_, head)) => {
            let reason = head.fields.all("x-sluice-reason").first().map(|reason| (*reason).to_owned());
            let what = What::Answer { status: head.status, reason };
            load.fail(Kind::WebSocket, WEBSOCKETS, since, what);
        }
        Err(error) => load.fail(Kind::WebSocket, WEBSOCKETS, since, What::unanswered(&error)),
    }
}

pub fn tcp(load: &Load, rng: &mut Rng) {
    let since = load.now();
    match Wire::connect(load.addresses.db, DEADLINE) {
        Ok(mut wire) => converse(load, rng, &mut wire, Kind::Tcp, TCP),
        Err(error) => load.fail(Kind::Tcp, TCP, since, What::unanswered(&error)),
    }
}

/// One message at a time, until this tunnel's life is over.
fn converse(load: &Load, rng: &mut Rng, wire: &mut Wire, kind: Kind, app: &'static str) {
    let (life, began) = (load.life(rng), Instant::now());
    // When it was last known to be whole: it may have ended while nobody looked.
    let mut since = load.now();
    loop {
        let (seed, length) = (rng.u64(..), rng.usize(1..MESSAGE_BYTES));
        match echo(wire, seed, length) {
            Ok(true) => {
                load.journal.right(kind, length);
                since = load.now();
            }
            Ok(false) => {
                return load.fail(kind, app, since, What::Wrong("another message came back".to_owned()));
            }
            Err(error) => return load.fail(kind, app, since, What::cut(&error)),
        }
        if began.elapsed() > life || load.is_stopped() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn echo(wire: &mut Wire, seed: u64, length: usize) -> io::Result<bool> {
    wire.send(pattern::piece(seed, 0, length))?;
    let bytes = wire.exactly(length)?;
    Ok(pattern::is_right(seed, 0, &bytes))
}
