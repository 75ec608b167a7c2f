//! A client that speaks HTTP/1.1: one request at a time on a connection of bytes.

pub mod connection;

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::answer::Answer;
use super::client::Client;
use super::date;
use super::facts::{After, Facts};
use super::fill::poll_fill;
use super::outgoing::{MERGE_BYTES, Outgoing};
use super::relay::{Decoder, Relay};
use super::timeouts;
use super::wire::{Gone, Reply, Sent, Sink, Source, Upward, Wire};
use crate::listener::{HttpListener, Stream};
use crate::message::encode::{self, Delimiting, Downstream};
use crate::message::{Framing, Version};
use crate::reason::Reason;
use crate::worker::Buffer;

/// What a response's head may gain: framing and Connection, so that writing it allocates once. A short
/// body is merged into it.
const ADDED_BYTES: usize = 256;

#[derive(Debug)]
pub struct Http1 {
    pub stream: Stream,
    /// Received and not yet used: a head in the making, a body's start, the next request.
    pub received: Option<Buffer>,
}

impl Wire for Http1 {
    const READ: usize = usize::MAX;

    fn source(&mut self) -> Source<'_> {
        Source::Stream { stream: &mut self.stream, carried: &mut self.received }
    }

    fn sink(&mut self) -> Sink<'_> {
        Sink::Stream(&mut self.stream)
    }

    fn upload(&self, framing: Framing, to: Upward) -> Relay {
        Relay::upward(Decoder::of(framing), framing, to)
    }

    /// A FIN is no end: it may be half a close.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.stream.poll_reset(context)
    }

    fn respond(
        &mut self,
        reply: &Reply<'_>,
        keep_alive: bool,
        facts: &Facts,
        listener: &HttpListener,
    ) -> Result<Relay, Gone> {
        let hsts = listener.https.hsts.as_ref().map(|hsts| &*hsts.line);
        let downstream =
            Downstream { version: facts.version, keep_alive, hsts, date: date::push, edits: reply.edits };
        let added = reply.edits.map_or(0, |edits| edits.added.len());
        let room = reply.bytes.len() + added + ADDED_BYTES + reply.arrived.min(MERGE_BYTES);
        let mut out = Vec::with_capacity(room);
        let delimiting = encode::response(reply.head, reply.bytes, downstream, &mut out);
        Ok(Relay::to_bytes(reply.decoder(reply.head.framing), delimiting, out))
    }

    fn switch(&mut self, reply: Option<&Reply<'_>>, facts: &Facts) -> Result<Relay, Gone> {
        let mut out = Vec::new();
        match reply {
            Some(reply) => encode::switching(reply.head, reply.bytes, facts.accept.as_deref(), &mut out),
            // RFC 9110 section 9.3.6: no framing fields.
            None => {
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
                date::push(&mut out);
                out.extend_from_slice(b"\r\n");
            }
        }
        let decoder = reply.map_or(Decoder::UntilClose, |reply| reply.decoder(Framing::UntilClose));
        Ok(Relay::to_bytes(decoder, Delimiting::Plain, out))
    }

    async fn interim(client: &mut Client<Self>, reply: &Reply<'_>, facts: &Facts) -> Result<Sent, Gone> {
        if facts.version == Version::Http10 {
            return Ok(Sent::default());
        }
        let mut out = Vec::new();
        encode::interim(reply.head, reply.bytes, &mut out);
        let bytes = client.send(out).await.map_err(|_| Gone)?;
        Ok(Sent { bytes, body: 0 })
    }

    async fn answer(
        client: &mut Client<Self>,
        answer: Answer,
        facts: &Facts,
        keep_alive: bool,
    ) -> Result<Sent, Gone> {
        let hsts = client.origin.listener.https.hsts.clone();
        let (bytes, body) = answer.into_http1(facts, hsts.as_deref(), keep_alive);
        let bytes = client.send(bytes).await.map_err(|_| Gone)?;
        Ok(Sent { bytes, body })
    }

    /// At once only if the client has said that it is done and nothing of it is left unread. Unread
    /// bytes would turn the close into a reset, which can take the response with it (RFC 9112 section 9.6).
    fn after_last(&self, has_body: bool, facts: &Facts) -> After {
        let is_quiet = || self.received.is_none() && !self.stream.has_unread();
        if facts.is_last && !has_body && is_quiet() { After::Close } else { After::Linger }
    }

    fn decline(&mut self) -> bool {
        false
    }

    /// The connection is closed with a reset, see [`After::Abort`].
    fn abort(&mut self, _facts: &Facts, _reason: Reason) {}
}

impl Client<Http1> {
    /// Returns what it still holds.
    pub fn release(&mut self) {
        self.wire.received.take().into_iter().for_each(|buffer| self.worker.buffers.put(buffer));
    }

    /// Forgets the first `bytes` of what was received.
    pub fn consume(&mut self, bytes: usize) {
        if let Some(mut buffer) = self.wire.received.take() {
            buffer.start += bytes;
            if buffer.is_empty() {
                self.worker.buffers.put(buffer);
            } else {
                self.wire.received = Some(buffer);
            }
        }
    }

    /// Sends a whole response of our own; returns its bytes.
    pub async fn send(&mut self, response: Vec<u8>) -> io::Result<u64> {
        let mut outgoing = Outgoing::starting_with(response);
        self.deadline.set(timeouts::BODY);
        let Self { wire: Http1 { stream, .. }, worker, deadline, .. } = self;
        let sending = deadline.bound(|context| {
            ready!(outgoing.poll_send(context, stream, &worker.buffers))?;
            stream.poll_flush_out(context)
        });
        match sending.await {
            Ok(sent) => sent.map(|()| outgoing.sent),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// See [`Stream::poll_goodbye`].
    pub async fn say_goodbye(&mut self) {
        if matches!(self.wire.stream, Stream::Plain(_)) {
            return;
        }
        self.deadline.set(timeouts::LINGER);
        let Self { wire: Http1 { stream, .. }, deadline, .. } = self;
        // Whatever comes of it, the connection is closed next.
        let _ = deadline.bound(|context| stream.poll_goodbye(context)).await;
    }

    /// Says that we are done, then reads and forgets until the client has heard it.
    pub async fn linger(&mut self) {
        let began = Instant::now();
        self.release();
        self.deadline.set(timeouts::LINGER);
        let Self { wire: Http1 { stream, .. }, worker, origin, deadline } = self;
        let heard = deadline.bound(|context| {
            ready!(stream.poll_shutdown_out(context))?;
            loop {
                match ready!(poll_fill(context, stream, &worker.buffers, false))? {
                    Some(buffer) => worker.buffers.put(buffer),
                    None => return Poll::Ready(io::Result::Ok(())),
                }
                if began.elapsed() < timeouts::LINGER_TOTAL && !origin.is_aborting() {
                    deadline.set(timeouts::LINGER);
                }
            }
        });
        // Whatever ended it, the connection is closed next.
        let _ = heard.await;
    }
}
