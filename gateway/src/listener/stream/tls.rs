//! A TLS connection: moves records between its socket, its session and the caller.
//!
//! Between two polls it holds only what one of the three could not take: the beginning of a record, the
//! rest of a record that was larger than the caller's room, records that the socket had no room for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, Error, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::held::Held;
use super::scratch::{self, INCOMING_BYTES, MAX_SEND_BYTES};
use super::server_name;
use super::session::{MAX_PLAIN_BYTES, MAX_RECORD_BYTES, Session, Stopped};

/// Reads in one poll that bring no data: tickets, key updates, the pieces of one record. Whoever sends
/// more of them waits for its turn.
const FRUITLESS_READS: usize = 8;
/// Messages of a handshake's end, a reply to a key update: they leave with data that follows at once.
const SHORT_BYTES: usize = 2 << 10;

pub struct TlsStream {
    socket: TcpStream,
    session: Session,
    server_name: Option<Box<str>>,
    /// Received, and not opened or part of a message that is not whole.
    unopened: Held,
    /// Whether a whole record may lie there.
    may_open: bool,
    /// Opened, and not read by the caller: of one record.
    unread: Held,
    /// Records, never plain bytes: of one call to write, and replies.
    unsent: Held,
    /// The socket took only a part of what is unsent.
    is_blocked: bool,
    /// The other side has said that it has sent everything.
    is_peer_done: bool,
    /// We have.
    is_done: bool,
    /// After this nothing is read or written.
    failure: Option<Box<Error>>,
}

impl TlsStream {
    pub fn server(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Session::server(config).map(|session| Self::new(socket, session)).map_err(invalid)
    }

    pub fn client(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Session::client(config, name).map(|session| Self::new(socket, session)).map_err(invalid)
    }

    fn new(socket: TcpStream, session: Session) -> Self {
        Self {
            socket,
            session,
            server_name: None,
            unopened: Held::default(),
            // A client speaks first.
            may_open: true,
            unread: Held::default(),
            unsent: Held::default(),
            is_blocked: false,
            is_peer_done: false,
            is_done: false,
            failure: None,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn state(&self) -> &CommonState {
        self.session.state()
    }

    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether something has been received that the caller has not read.
    pub fn holds_received(&self) -> bool {
        !self.unread.is_empty() || !self.unopened.is_empty()
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        [&self.unopened, &self.unread, &self.unsent].map(Held::capacity).iter().sum()
    }

    /// Ready once both sides may send. What TLS 1.3 says last (a server's tickets, a client's Finished)
    /// leaves with the first write, or before the first wait for the other side.
    pub fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.state().is_handshaking() {
            ready!(self.poll_unsent(context))?;
            let received = ready!(self.poll_receive(context, &mut ReadBuf::new(&mut [])));
            if let Session::Server(_) = self.session
                && let Some(name) = server_name::take_noted()
            {
                self.server_name = Some(name);
            }
            if received? == Stopped::Closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        match self.state().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Poll::Ready(Ok(())),
            // A client may not say anything before it has this.
            _ => self.poll_unsent(context),
        }
    }

    /// Reads plain bytes; none are the other side's end, if it has said so.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ends without that: what was read may have been cut.
    pub fn poll_read(&mut self, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.bytes().len().min(room.remaining());
            room.put_slice(&self.unread.bytes()[..count]);
            self.unread.advance(count);
            return Poll::Ready(Ok(()));
        }
        if self.is_peer_done || room.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        let before = room.filled().len();
        for _ in 0..FRUITLESS_READS {
            let stopped = ready!(self.poll_receive(context, room));
            if room.filled().len() > before {
                // An error behind data is kept for the next call.
                return Poll::Ready(Ok(()));
            }
            if stopped? == Stopped::Closed {
                return Poll::Ready(Ok(()));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Opens what is there, or reads once from the socket and opens that. Before it waits, and after an
    /// error, what we have to say is sent.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Stopped>> {
        let polled = self.poll_records(context, room);
        if polled.is_pending() || self.failure.is_some() {
            // A socket that fails here fails the next read as well.
            let _ = self.poll_unsent(context);
        }
        polled
    }

    fn poll_records(
        &mut self,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Stopped>> {
        if !self.may_open && !self.unopened.is_empty() {
            // Nothing is moved in vain.
            ready!(self.socket.poll_read_ready(context))?;
        }
        scratch::with_incoming(|incoming| {
            let held = self.unopened.bytes().len();
            incoming[..held].copy_from_slice(self.unopened.bytes());
            let mut filled = held;
            if !self.may_open {
                filled += ready!(self.poll_socket(context, incoming, held, room.remaining()))?;
            }
            Poll::Ready(self.open(&mut incoming[..filled], room))
        })
    }

    /// Reads behind the first `held` bytes of `incoming`; never nothing.
    fn poll_socket(
        &mut self,
        context: &mut Context<'_>,
        incoming: &mut [u8],
        held: usize,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        // No more than the caller can take, but at least a record.
        let limit = room.max(held + MAX_RECORD_BYTES).min(INCOMING_BYTES);
        let mut buffer = ReadBuf::new(&mut incoming[held..limit]);
        if buffer.remaining() == 0 {
            return Poll::Ready(Err(invalid(rustls::InvalidMessage::HandshakePayloadTooLarge.into())));
        }
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended without TLS's close_notify",
            ))),
            read => Poll::Ready(Ok(read)),
        }
    }

    fn open(&mut self, incoming: &mut [u8], room: &mut ReadBuf<'_>) -> io::Result<Stopped> {
        let unread = &mut self.unread;
        let mut take = |plain: &[u8]| {
            let fitting = plain.len().min(room.remaining());
            room.put_slice(&plain[..fitting]);
            if fitting < plain.len() {
                unread.append(&plain[fitting..]);
            }
            room.remaining() > 0
        };
        let (done, opened) = self.session.open(incoming, self.unsent.writer(), &mut take);
        self.may_open = matches!(opened, Ok(Stopped::Full));
        self.is_peer_done |= matches!(opened, Ok(Stopped::Closed));
        self.unopened = Held::default();
        match opened {
            // RFC 8446 section 6.1: what follows is ignored.
            Ok(Stopped::Closed) => {}
            Ok(_) => self.unopened.append(&incoming[done..]),
            Err(error) => {
                self.failure = Some(Box::new(error.clone()));
                return Err(invalid(error));
            }
        }
        opened.map_err(invalid)
    }

    /// Writes plain bytes: as many as leave in one system call if the socket takes them. What it does not
    /// take is kept, and nothing more is accepted before it has left.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.is_done {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.is_blocked || self.unsent.bytes().len() > SHORT_BYTES {
            ready!(self.poll_unsent(context))?;
        }
        scratch::with_outgoing(|outgoing| {
            let before = self.unsent.bytes().len();
            outgoing.records[..before].copy_from_slice(self.unsent.bytes());
            self.unsent.advance(before);
            let (accepted, bytes) = self.seal(slices, outgoing, before)?;
            self.send(context, &outgoing.records[..bytes])?;
            Poll::Ready(Ok(accepted))
        })
    }

    /// Turns as much of `slices` as leaves at once into records, behind the first `bytes` of `outgoing`.
    /// Returns what it accepted, and where the records end.
    fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        outgoing: &mut scratch::Outgoing,
        mut bytes: usize,
    ) -> io::Result<(usize, usize)> {
        let scratch::Outgoing { plain, records } = outgoing;
        // Whole records would be taken for what follows; the parts of one are known to rustls already.
        let unopened: &mut [u8] = if self.may_open { &mut [] } else { self.unopened.bytes_mut() };
        let mut gather = Gather { slices, taken: 0 };
        let mut accepted = 0;
        while accepted < MAX_SEND_BYTES {
            let next = gather.next(MAX_SEND_BYTES - accepted, plain);
            if next.is_empty() {
                break;
            }
            accepted += next.len();
            match self.session.seal(unopened, next, &mut records[bytes..]) {
                Ok(sealed) => bytes += sealed,
                Err(error) => {
                    self.failure = Some(Box::new(error.clone()));
                    return Err(invalid(error));
                }
            }
        }
        Ok((accepted, bytes))
    }

    /// Gives `records` to the socket and keeps what it does not take.
    fn send(&mut self, context: &mut Context<'_>, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let sent = match Pin::new(&mut self.socket).poll_write(context, records) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        if sent < records.len() {
            self.is_blocked = true;
            self.unsent.append(&records[sent..]);
        }
        Ok(())
    }

    /// Ready when the kernel has everything.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, self.unsent.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.unsent.advance(sent),
            }
        }
        self.is_blocked = false;
        Poll::Ready(Ok(()))
    }

    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent(context)
    }

    /// Says that we have sent everything, in TLS; the coming close says it in TCP.
    pub fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_done {
            self.is_done = true;
            if self.failure.is_none() {
                let unopened: &mut [u8] = if self.may_open { &mut [] } else { self.unopened.bytes_mut() };
                self.session.close(unopened, self.unsent.writer());
            }
        }
        self.poll_unsent(context)
    }

    /// Says that we have sent everything, in TLS and then in TCP.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_goodbye(context))?;
        match ready!(Pin::new(&mut self.socket).poll_shutdown(context)) {
            // The other side was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(invalid(Error::clone(error))),
        }
    }
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Several pieces, as one stretch of plain bytes after the other.
struct Gather<'a> {
    slices: &'a [IoSlice<'a>],
    /// Of the first slice.
    taken: usize,
}

impl<'a> Gather<'a> {
    /// The next bytes, `most` at the most: of one piece where they fill records or nothing follows,
    /// otherwise one record's worth, copied together in `plain`. None at the end.
    fn next<'p>(&mut self, most: usize, plain: &'p mut Vec<u8>) -> &'p [u8]
    where
        'a: 'p,
    {
        plain.clear();
        while let Some((first, rest)) = self.slices.split_first() {
            let left = &first[self.taken..];
            let is_last = rest.iter().all(|slice| slice.is_empty());
            if plain.is_empty() && (is_last || left.len() >= MAX_PLAIN_BYTES) {
                let whole = if is_last { left.len() } else { left.len() / MAX_PLAIN_BYTES * MAX_PLAIN_BYTES };
                let count = whole.min(most);
                self.taken += count;
                return &left[..count];
            }
            let count = left.len().min(most.min(MAX_PLAIN_BYTES) - plain.len());
            plain.extend_from_slice(&left[..count]);
            self.taken += count;
            if count < left.len() {
                break;
            }
            (self.slices, self.taken) = (rest, 0);
        }
        plain
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
