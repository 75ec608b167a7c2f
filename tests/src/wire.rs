//! One TCP connection, read byte by byte with nothing forgiven.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// No head or chunk line of a test is longer; a peer that sends more without a line end is broken.
const MAX_LINE_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;

/// Where a recording connection keeps what it received.
pub(crate) type Tap = Arc<Mutex<Vec<u8>>>;

pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// What a read fills, kept from one to the next.
    scratch: Vec<u8>,
    tap: Option<Tap>,
}

impl Wire {
    /// # Errors
    /// When the socket cannot be set up.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new(), scratch: vec![0; READ_BYTES], tap: None })
    }

    /// # Errors
    /// When nobody listens or the deadline passes.
    pub fn connect(address: SocketAddr, deadline: Duration) -> io::Result<Self> {
        let wire = Self::new(TcpStream::connect_timeout(&address, deadline)?)?;
        wire.limit(deadline)?;
        Ok(wire)
    }

    /// As [`Wire::connect`], from an address of this machine's own: all of 127.0.0.0/8 is.
    ///
    /// # Errors
    /// When nobody listens or the deadline passes.
    pub fn connect_from(source: IpAddr, address: SocketAddr, deadline: Duration) -> io::Result<Self> {
        let source = SocketAddr::new(source, 0);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&address.into(), deadline)?;
        let wire = Self::new(socket.into())?;
        wire.limit(deadline)?;
        Ok(wire)
    }

    /// Bounds every later read and write.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn limit(&self, deadline: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(deadline))?;
        self.stream.set_write_timeout(Some(deadline))
    }

    pub(crate) fn record(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// # Errors
    /// As the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next line without its CRLF; `None` at the end of the stream before any byte of it.
    ///
    /// # Errors
    /// For a line that ends in a bare LF, holds a bare CR or never ends.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.unread[seen..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=seen + at).collect();
                return Self::text(&line).map(Some);
            }
            seen = self.unread.len();
            if seen > MAX_LINE_BYTES {
                return Err(invalid(format!("a line of more than {MAX_LINE_BYTES} bytes")));
            }
            if self.fill()? == 0 {
                return if seen == 0 { Ok(None) } else { Err(cut("within a line")) };
            }
        }
    }

    /// Latin-1, so that no byte is lost.
    fn text(line: &[u8]) -> io::Result<String> {
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        match text.strip_suffix("\r\n") {
            Some(line) if !line.contains('\r') => Ok(line.to_owned()),
            _ => Err(invalid(format!("line {text:?} is not ended by one CRLF"))),
        }
    }

    /// # Errors
    /// When the stream ends before `count` bytes.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            if self.fill()? == 0 {
                return Err(cut("within a body"));
            }
        }
        let rest = self.unread.split_off(count);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// When the stream is reset or goes silent.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whatever is there, waiting for at least one byte; empty at the end of the stream.
    ///
    /// # Errors
    /// As the socket.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads away `count` bytes and keeps none.
    ///
    /// # Errors
    /// When the stream ends before.
    pub fn discard(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let buffered = self.unread.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if buffered == 0 {
                if self.fill()? == 0 {
                    return Err(cut("within a body"));
                }
                continue;
            }
            self.unread.drain(..buffered);
            left -= buffered as u64;
        }
        Ok(())
    }

    /// Ends our direction; theirs stays open.
    ///
    /// # Errors
    /// As the socket.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The connection will end with RST when it is dropped.
    ///
    /// # Errors
    /// As the socket.
    pub fn reset_at_end(&self) -> io::Result<()> {
        // A linger time of zero sends RST in place of FIN. It belongs to the socket, not to this handle.
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let count = self.stream.read(&mut self.scratch)?;
        let bytes = &self.scratch[..count];
        self.unread.extend_from_slice(bytes);
        if let Some(tap) = &self.tap {
            tap.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
        Ok(count)
    }
}

pub(crate) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the connection ended {place}"))
}
