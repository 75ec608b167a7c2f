//! An endpoint that records every byte and answers with whatever bytes it was given.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::endpoint::loopback;
use crate::server::Server;
use crate::wire::{Tap, Wire};

pub struct RawEndpoint {
    server: Server,
    taps: Arc<Mutex<Vec<Tap>>>,
}

impl RawEndpoint {
    /// `script` serves each connection, given with its number; the connection ends when it returns.
    pub fn start(script: impl Fn(&mut Wire, usize) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let taps: Arc<Mutex<Vec<Tap>>> = Arc::default();
        let recording = Arc::clone(&taps);
        let server = serve(move |wire, number| {
            let tap = Tap::default();
            recording.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tap));
            wire.record(tap);
            script(wire, number)
        });
        Self { server, taps }
    }

    /// As [`RawEndpoint::start`], for more bytes than anyone wants to keep.
    pub fn start_unrecorded(
        script: impl Fn(&mut Wire, usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { server: serve(script), taps: Arc::default() }
    }

    /// Reads each request up to the empty line after its head, answers `bytes`, keeps the connection.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |wire, _| {
            while read_head(wire)?.is_some() {
                wire.send(&bytes)?;
            }
            Ok(())
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn accepted(&self) -> usize {
        self.server.accepted()
    }

    pub fn open(&self) -> usize {
        self.server.open()
    }

    /// Every byte received so far, per connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        taps.iter().map(|tap| tap.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// The first connection on which `needle` arrived.
    pub fn connection_with(&self, needle: &str) -> Option<Vec<u8>> {
        self.received().into_iter().find(|bytes| contains(bytes, needle.as_bytes()))
    }
}

fn serve(script: impl Fn(&mut Wire, usize) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(loopback(), move |stream, number| {
        // What a broken connection means is for the test to say, from what it saw.
        Wire::new(stream).and_then(|mut wire| script(&mut wire, number)).ok();
    })
}

/// The lines of a head, or `None` when the peer ended the connection instead.
pub fn read_head(wire: &mut Wire) -> io::Result<Option<Vec<String>>> {
    let Some(first) = wire.line()? else { return Ok(None) };
    let mut lines = vec![first];
    while let Some(line) = wire.line()? {
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    Ok(Some(lines))
}

pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
