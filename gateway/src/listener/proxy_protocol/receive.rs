//! The header that a connection begins with, taken from its socket to the byte.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Addresses, FirstBytes, MAX_HEADER_BYTES, read_header};
use crate::reason::Reason;
use crate::worker::Deadline;

/// A header is the first thing that a proxy sends, in one segment (section 2): three seconds, which the
/// specification advises, cover one lost segment.
const HEADER_WAIT: Duration = Duration::from_secs(3);

/// Whether a listener's connections begin with a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// What looks like one is the client's own data.
    #[default]
    Off,
    /// Peers in `trusted_proxies` may send one. Others are not waited for.
    Optional,
    /// Every connection has one, and comes from `trusted_proxies` where there are any.
    Required,
}

/// Where a connection comes from and what it was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client as far as it is known: for logs, for forwarded headers, and for what
    /// `trusted_proxies` is asked about from here on.
    pub peer: SocketAddr,
    /// What the client connected to, where a header said so.
    pub destination: Option<SocketAddr>,
}

/// Takes the header from `stream` as `mode` demands, and not one byte more: who reads next, TLS or the
/// kernel for it, finds the client's first byte.
///
/// # Errors
/// Why the connection is to be closed.
pub async fn receive(
    mode: Mode,
    stream: &TcpStream,
    peer: SocketAddr,
    trust: Trust,
    deadline: &Deadline,
) -> Result<Origin, Reason> {
    let direct = Origin { peer, destination: None };
    match (mode, trust) {
        (Mode::Off, _) | (Mode::Optional, Trust::Nobody | Trust::Others) => return Ok(direct),
        (Mode::Required, Trust::Others) => return Err(Reason::ProxyHeaderUntrusted),
        (Mode::Required, Trust::Nobody | Trust::Peer) | (Mode::Optional, Trust::Peer) => {}
    }
    deadline.set(HEADER_WAIT);
    let taken = take(stream, deadline).await;
    deadline.clear();
    match taken {
        Ok(Some(Addresses { source, destination })) => {
            Ok(Origin { peer: source, destination: Some(destination) })
        }
        Ok(None) => Ok(direct),
        // Protocols in which the server speaks first: the client waits, too.
        Err(Reason::ProxyHeaderMissing) if mode == Mode::Optional => Ok(direct),
        Err(reason) => Err(reason),
    }
}

/// Whom `trusted_proxies` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is empty.
    Nobody,
    /// This peer.
    Peer,
    /// Others than this peer.
    Others,
}

/// `None`: a header without addresses.
async fn take(stream: &TcpStream, deadline: &Deadline) -> Result<Option<Addresses>, Reason> {
    loop {
        let mut readable = pin!(stream.ready(Interest::READABLE));
        let ready = deadline.bound(|context| readable.as_mut().poll(context)).await;
        let Ok(Ok(ready)) = ready else { return Err(Reason::ProxyHeaderMissing) };
        match stream.try_io(Interest::READABLE, || peek(stream)) {
            Ok(FirstBytes::Header { length, addresses }) => {
                return discard(stream, length).map(|()| addresses);
            }
            Ok(FirstBytes::Malformed) => return Err(Reason::ProxyHeaderMalformed),
            // Without a byte, or with a beginning that nothing will follow.
            Ok(FirstBytes::NotProxy | FirstBytes::NeedMore) => return Err(Reason::ProxyHeaderMissing),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ready.is_read_closed() => {}
            Err(_) => return Err(Reason::ProxyHeaderMissing),
        }
    }
}

/// What the kernel has of the connection's beginning. A beginning of a header is said to be no event, so
/// that the next one is more of it.
fn peek(stream: &TcpStream) -> io::Result<FirstBytes> {
    let mut first = [0; MAX_HEADER_BYTES];
    let (count, _) = recv(stream, &mut first[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    match read_header(&first[..count]) {
        FirstBytes::NeedMore if count > 0 => Err(io::ErrorKind::WouldBlock.into()),
        read => Ok(read),
    }
}

/// Takes bytes that have been looked at.
fn discard(stream: &TcpStream, length: usize) -> Result<(), Reason> {
    let mut header = [0; MAX_HEADER_BYTES];
    let mut left = length;
    while left > 0 {
        match recv(stream, &mut header[..left], RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => left -= count.min(left),
            Err(rustix::io::Errno::INTR) => {}
            // It lay in the receive queue, so only a reset can have removed it.
            Ok(_) | Err(_) => return Err(Reason::ProxyHeaderMissing),
        }
    }
    Ok(())
}
