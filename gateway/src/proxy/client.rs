//! The client's side of a connection: its stream, what was received from it, and its one deadline.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};

use super::outgoing::Outgoing;
use super::relay::poll_fill;
use super::timeouts;
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

    /// Says that we are done, then reads and forgets until the client has heard it.
    pub async fn linger(&mut self) {
        self.deadline.set(timeouts::LINGER);
        self.release();
        let Self { stream, worker, deadline, .. } = self;
        let heard = deadline.bound(|context| {
            ready!(stream.poll_shutdown_out(context))?;
            loop {
                match ready!(poll_fill(context, stream, &worker.buffers, false))? {
                    Some(buffer) => worker.buffers.put(buffer),
                    None => return Poll::Ready(io::Result::Ok(())),
                }
            }
        });
        // Whatever ended it, the connection is closed next.
        let _ = heard.await;
    }
}
