//! Somebody who receives lines over a socket. He may be slow, away, or not there yet: the thread that
//! writes waits for him, and what waits behind it is bounded.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::backoff::Backoff;
use super::{StreamAddress, SyslogAddress};
use crate::access_log::status::Status;
use crate::message::encode::push_decimal;
use crate::worker::request_ids::random;

/// A receiver on the same network accepts within milliseconds; a lost SYN is repeated after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a receiver that reads nothing is waited for before the writer looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(500);

/// A connection that lasted this long was one: the next attempt after it waits no longer than the first.
/// A receiver that takes connections and drops them is waited for like one that refuses.
const STEADY: Duration = Duration::from_secs(10);

/// How a receiver tells lines apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By their ends.
    Lines,
    /// By their lengths, which come first.
    Counted,
    /// One is one.
    Datagrams,
}

#[derive(Debug)]
pub enum Address {
    UnixStream(PathBuf),
    UnixDatagram(PathBuf),
    Tcp(SocketAddr),
    Udp(SocketAddr),
}

impl From<&StreamAddress> for Address {
    fn from(address: &StreamAddress) -> Self {
        match address {
            StreamAddress::Unix(path) => Self::UnixStream(path.clone()),
            StreamAddress::Tcp(address) => Self::Tcp(*address),
        }
    }
}

impl From<&SyslogAddress> for Address {
    fn from(address: &SyslogAddress) -> Self {
        match address {
            SyslogAddress::Unix(path) => Self::UnixDatagram(path.clone()),
            SyslogAddress::Udp(address) => Self::Udp(*address),
            SyslogAddress::Tcp(address) => Self::Tcp(*address),
        }
    }
}

impl Address {
    fn connect(&self) -> io::Result<Socket> {
        let (domain, kind) = match self {
            Self::UnixStream(_) => (Domain::UNIX, Type::STREAM),
            Self::UnixDatagram(_) => (Domain::UNIX, Type::DGRAM),
            Self::Tcp(address) => (Domain::for_address(*address), Type::STREAM),
            Self::Udp(address) => (Domain::for_address(*address), Type::DGRAM),
        };
        let socket = Socket::new(domain, kind, None)?;
        // Bounds the connect of a unix socket too, which waits while its listener's queue is full.
        socket.set_write_timeout(Some(LOOK_UP))?;
        match self {
            Self::UnixStream(path) | Self::UnixDatagram(path) => socket.connect(&SockAddr::unix(path)?)?,
            Self::Tcp(address) => socket.connect_timeout(&(*address).into(), CONNECT_TIMEOUT)?,
            Self::Udp(address) => socket.connect(&(*address).into())?,
        }
        Ok(socket)
    }
}

#[derive(Debug)]
pub struct Remote {
    address: Address,
    framing: Framing,
    socket: Option<Socket>,
    connected: Instant,
    /// Since the last connection that was [`STEADY`].
    backoff: Backoff,
    /// Lines with their lengths.
    framed: Vec<u8>,
}

impl Remote {
    pub fn new(address: Address, framing: Framing) -> Self {
        let connected = Instant::now();
        Self { address, framing, socket: None, connected, backoff: Backoff::default(), framed: Vec::new() }
    }

    pub fn disconnect(&mut self) {
        self.socket = None;
    }

    /// Sends whole lines, however long that takes; gives up only when the writer is to end.
    pub fn write(&mut self, lines: &[u8], status: &Status) {
        match self.framing {
            Framing::Datagrams => {
                let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
                while let Some(line) = lines.next() {
                    if !self.send(line, status) {
                        return status.abandoned(1 + lines.count() as u64);
                    }
                }
            }
            Framing::Lines => {
                let left = self.stream(lines, status);
                status.abandoned(memchr::memchr_iter(b'\n', &lines[lines.len() - left..]).count() as u64);
            }
            Framing::Counted => {
                let mut framed = std::mem::take(&mut self.framed);
                framed.clear();
                lines.split_inclusive(|byte| *byte == b'\n').for_each(|line| count(line, &mut framed));
                let left = self.stream(&framed, status);
                status.abandoned(frames(&framed[framed.len() - left..]).count() as u64);
                self.framed = framed;
            }
        }
    }

    /// Sends `bytes`, and after a break goes on with the first line that was not sent in full. Returns how
    /// much is left, which is nothing unless the writer is to end.
    fn stream(&mut self, bytes: &[u8], status: &Status) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            if !self.connected(status) {
                sent = self.start_of_line(bytes, sent);
                break;
            }
            let Some(socket) = &self.socket else { continue };
            match socket.send(&bytes[sent..]) {
                Ok(count) => {
                    sent += count;
                    status.succeeded(count);
                }
                Err(error) if is_impatience(&error) => {
                    if status.is_ending() {
                        sent = self.start_of_line(bytes, sent);
                        break;
                    }
                }
                Err(error) => {
                    sent = self.start_of_line(bytes, sent);
                    self.broken(&error, status);
                }
            }
        }
        bytes.len() - sent
    }

    /// Where the line begins that byte `sent` is in: half of it tells a new connection nothing.
    fn start_of_line(&self, bytes: &[u8], sent: usize) -> usize {
        match self.framing {
            Framing::Lines | Framing::Datagrams => {
                memchr::memrchr(b'\n', &bytes[..sent]).map_or(0, |end| end + 1)
            }
            Framing::Counted => {
                let mut start = 0;
                for frame in frames(bytes) {
                    if start + frame.len() > sent {
                        break;
                    }
                    start += frame.len();
                }
                start
            }
        }
    }

    /// Sends a line of its own, without its end. False: it was given up.
    fn send(&mut self, line: &[u8], status: &Status) -> bool {
        let message = line.strip_suffix(b"\n").unwrap_or(line);
        loop {
            if !self.connected(status) {
                return false;
            }
            let Some(socket) = &self.socket else { continue };
            match socket.send(message) {
                Ok(count) => {
                    status.succeeded(count);
                    return true;
                }
                Err(error) if is_impatience(&error) => {
                    if status.is_ending() {
                        return false;
                    }
                }
                // Longer than its datagrams may be; or nobody was there for the one before, which only UDP
                // learns afterwards.
                Err(error) if is_too_long(&error) => {
                    status.lost(1, &error);
                    return true;
                }
                Err(error) if matches!(self.address, Address::Udp(_)) => {
                    status.lost(1, &error);
                    // This one is for whoever is there by now; if nobody is, the next one will tell.
                    let _ = socket.send(message);
                    return true;
                }
                Err(error) => self.broken(&error, status),
            }
        }
    }

    /// Whether there is a connection, after as many attempts as it takes. False: the writer is to end.
    fn connected(&mut self, status: &Status) -> bool {
        if let Some(socket) = &self.socket
            && self.framing != Framing::Datagrams
            && has_ended(socket)
        {
            // What is sent now would be refused, and lost before that is known.
            self.broken(&io::ErrorKind::ConnectionReset.into(), status);
        }
        while self.socket.is_none() {
            match self.address.connect() {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.connected = Instant::now();
                    status.connected();
                }
                Err(error) => {
                    status.failed("cannot reach the access log's receiver", &error);
                    if !status.wait(self.backoff.next(random())) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn broken(&mut self, error: &io::Error, status: &Status) {
        self.socket = None;
        if self.connected.elapsed() >= STEADY {
            self.backoff = Backoff::default();
        }
        status.failed("lost the access log's receiver", error);
        status.wait(self.backoff.next(random()));
    }
}

/// A receiver has nothing to say: what there is to read is its end.
fn has_ended(socket: &Socket) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    match socket.recv_with_flags(&mut byte, libc::MSG_DONTWAIT | libc::MSG_PEEK) {
        Ok(count) => count == 0,
        Err(error) => !is_impatience(&error),
    }
}

/// Nothing was wrong but the time that it took.
fn is_impatience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// `17 a line as it is`: the length counts what follows the space.
fn count(line: &[u8], framed: &mut Vec<u8>) {
    let message = line.strip_suffix(b"\n").unwrap_or(line);
    push_decimal(message.len() as u64, framed);
    framed.push(b' ');
    framed.extend_from_slice(message);
}

/// What [`count`] wrote, frame by frame.
fn frames(mut framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let space = memchr::memchr(b' ', framed)?;
        let length = std::str::from_utf8(&framed[..space]).ok()?.parse::<usize>().ok()?;
        let (frame, rest) = framed.split_at_checked(space + 1 + length)?;
        framed = rest;
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_and_found_again() {
        let mut framed = Vec::new();
        for line in [&b"<134>1 a\n"[..], b"\n", b"a longer line of 21 b\n"] {
            count(line, &mut framed);
        }
        assert_eq!(framed, b"8 <134>1 a0 21 a longer line of 21 b");
        assert_eq!(frames(&framed).map(<[u8]>::len).collect::<Vec<_>>(), [10, 2, 24]);
        let counted = Remote::new(Address::Udp(([127, 0, 0, 1], 1).into()), Framing::Counted);
        for (sent, wanted) in [(0, 0), (9, 0), (10, 10), (11, 10), (12, 12), (35, 12), (36, 36)] {
            assert_eq!(counted.start_of_line(&framed, sent), wanted, "{sent}");
        }
    }

    #[test]
    fn after_a_break_whole_lines_are_sent_again() {
        let lines = Remote::new(Address::Udp(([127, 0, 0, 1], 1).into()), Framing::Lines);
        for (sent, wanted) in [(0, 0), (3, 0), (4, 4), (5, 4), (8, 8)] {
            assert_eq!(lines.start_of_line(b"one\ntwo\n", sent), wanted, "{sent}");
        }
    }
}
