//! The client's side of a connection: its stream, what was received from it, and its one deadline.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use super::facts::{After, Facts};
use super::outgoing::Outgoing;
use super::relay::poll_fill;
use super::timeouts;
use crate::listener::tls::ClientIdentity;
use crate::listener::{HttpListener, Stream};
use crate::worker::{Buffer, Deadline, Worker};

#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    pub worker: Rc<Worker>,
    pub listener: Rc<HttpListener>,
    pub peer: SocketAddr,
    /// Whether the peer is one of `trusted_proxies`.
    pub is_trusted: bool,
    /// The name that a TLS client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Who a client with a verified certificate is.
    pub identity: Option<Rc<ClientIdentity>>,
    pub deadline: Deadline,
    /// Received and not yet used: a head in the making, a body's start, the next request.
    pub received: Option<Buffer>,
}

impl Client {
    /// Returns what it still holds.
    pub fn release(&mut self) {
        self.received.take().into_iter().for_each(|buffer| self.worker.buffers.put(buffer));
    }

    /// Forgets the first `bytes` of what was received.
    pub fn consume(&mut self, bytes: usize) {
        if let Some(mut buffer) = self.received.take() {
            buffer.start += bytes;
            if buffer.is_empty() {
                self.worker.buffers.put(buffer);
            } else {
                self.received = Some(buffer);
            }
        }
    }

    /// Sends a whole response of our own; returns its bytes.
    pub async fn send(&mut self, response: Vec<u8>) -> io::Result<u64> {
        let mut outgoing = Outgoing::starting_with(response);
        self.deadline.set(timeouts::BODY);
        let Self { stream, worker, deadline, .. } = self;
        let sending = deadline.bound(|context| {
            ready!(outgoing.poll_send(context, stream, &worker.buffers))?;
            stream.poll_flush_out(context)
        });
        match sending.await {
            Ok(sent) => sent.map(|()| outgoing.sent),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// How to close after a response that says so: at once only if the client has said that it is done
    /// and nothing of it is left unread. Unread bytes would turn the close into a reset, which can take
    /// the response with it (RFC 9112 section 9.6).
    pub fn after_last(&self, facts: &Facts) -> After {
        let is_quiet = self.received.is_none() && !self.stream.has_unread();
        if facts.is_last && !facts.has_body() && is_quiet { After::Close } else { After::Linger }
    }

    /// Tells a TLS client that the stream ends here and was not cut. TCP's own FIN needs no help.
    pub async fn say_goodbye(&mut self) {
        if matches!(self.stream, Stream::Plain(_)) {
            return;
        }
        self.deadline.set(timeouts::LINGER);
        let Self { stream, deadline, .. } = self;
        // Whatever comes of it, the connection is closed next.
        let _ = deadline.bound(|context| stream.poll_shutdown_out(context)).await;
    }

    /// Says that we are done, then reads and forgets until the client has heard it.
    pub async fn linger(&mut self) {
        let began = Instant::now();
        self.release();
        self.deadline.set(timeouts::LINGER);
        let Self { stream, worker, deadline, .. } = self;
        let heard = deadline.bound(|context| {
            ready!(stream.poll_shutdown_out(context))?;
            loop {
                match ready!(poll_fill(context, stream, &worker.buffers, false))? {
                    Some(buffer) => worker.buffers.put(buffer),
                    None => return Poll::Ready(io::Result::Ok(())),
                }
                if began.elapsed() < timeouts::LINGER_TOTAL && !worker.is_aborting() {
                    deadline.set(timeouts::LINGER);
                }
            }
        });
        // Whatever ended it, the connection is closed next.
        let _ = heard.await;
    }
}
