//! The endpoint behind the gateway: it records every byte, reads with the reference reader, and answers
//! as the case says.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tests::Server;

use crate::format::Step;
use crate::kernel;
use crate::reference::{self, Message, Reading};

/// The request that follows a case.
pub const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next.test\r\n\r\n";
/// Its answer.
pub const NEXT_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n/next";
const NEXT_TARGET: &str = "/next";
const READ_BYTES: usize = 64 << 10;

/// One connection from the gateway.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    pub bytes: Vec<u8>,
    pub has_ended: bool,
}

#[derive(Default)]
struct Shared {
    streams: Mutex<Vec<Stream>>,
    script: Mutex<Vec<Step>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Endpoint {
    server: Server,
    shared: Arc<Shared>,
}

impl Endpoint {
    pub fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let served = Arc::clone(&shared);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start(address, move |stream, _| {
            let index = {
                let mut streams = lock(&served.streams);
                streams.push(Stream::default());
                streams.len() - 1
            };
            let mut connection = Connection { stream, shared: &served, index, unread: Vec::new() };
            // What a broken connection means is for the case to say, from what it saw.
            let _ = connection.serve();
            lock(&served.streams)[index].has_ended = true;
        });
        Self { server, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What every request but that for [`NEXT`] is answered with from now on; empty: well.
    pub fn follow(&self, script: &[Step]) {
        *lock(&self.shared.script) = script.to_vec();
    }

    pub fn streams(&self) -> Vec<Stream> {
        lock(&self.shared.streams).clone()
    }
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    index: usize,
    unread: Vec<u8>,
}

impl Connection<'_> {
    fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        while let Some((head, _)) = self.read(reference::request_head)? {
            let script = lock(&self.shared.script).clone();
            if head.target() == NEXT_TARGET || script.is_empty() {
                self.play(&[Step::Request, Step::Send(answer(&head))])?;
            } else if !self.play(&script)? {
                return Ok(());
            }
            match self.read(reference::request)? {
                Some((_, length)) => drop(self.unread.drain(..length)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn play(&mut self, script: &[Step]) -> io::Result<bool> {
        for step in script {
            match step {
                Step::Head => {}
                Step::Request => {
                    if self.read(reference::request)?.is_none() {
                        return Ok(false);
                    }
                }
                Step::Send(bytes) => self.stream.write_all(bytes)?,
                Step::Pause => kernel::until_read(self.stream.peer_addr()?, self.stream.local_addr()?),
                Step::Close => return Ok(false),
                Step::Reset => {
                    SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The message at the front of what is unread, and its length; `None` when the stream ends first.
    /// An ambiguous one ends the connection, and the recording accuses the gateway.
    fn read(
        &mut self,
        reader: impl Fn(&[u8]) -> Result<Reading<Message>, String>,
    ) -> io::Result<Option<(Message, usize)>> {
        loop {
            match reader(&self.unread).map_err(io::Error::other)? {
                Reading::Whole { message, length } => return Ok(Some((message, length))),
                Reading::Partial => {}
            }
            let mut buffer = [0; READ_BYTES];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(None);
            }
            self.unread.extend_from_slice(&buffer[..count]);
            lock(&self.shared.streams)[self.index].bytes.extend_from_slice(&buffer[..count]);
        }
    }
}

/// Says which target was understood.
fn answer(head: &Message) -> Vec<u8> {
    let target = head.target();
    let body = if head.lines[0].starts_with("HEAD ") { "" } else { target };
    // The last answer of a case is known to the byte; the others gain a date on their way.
    let date = if target == NEXT_TARGET { "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" } else { "" };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{date}\r\n{body}", target.len()).into_bytes()
}
