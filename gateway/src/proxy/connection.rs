//! One client connection: request after request, without a buffer in between.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use super::outgoing::Outgoing;
use super::prepare::{Facts, Refusal, prepare, reason_of};
use super::relay::{poll_fill, poll_more};
use super::{answer, exchange, record, timeouts};
use crate::listener::{HttpListener, Stream};
use crate::message::Malformed;
use crate::message::request::{MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use crate::message::scan::HeadScan;
use crate::reason::Reason;
use crate::worker::{Buffer, Deadline, Worker};

#[derive(Debug)]
pub struct Connection {
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

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    KeepAlive,
    /// Everything was said and read.
    Close,
    /// The client may still be sending: closing at once would reset the connection and could take our
    /// response with it (RFC 9112 section 9.6).
    Linger,
    /// The response is incomplete, and the client must not mistake it for a whole one.
    Abort,
}

enum Received {
    /// A head of this many bytes, at the start of what was received.
    Head(usize),
    /// The client has gone, or has nothing more to say.
    Closed,
    Refused(Reason, Malformed),
    TimedOut,
}

impl Connection {
    pub async fn serve(mut self) {
        let mut is_first = true;
        loop {
            let after = match self.receive_head(is_first).await {
                Received::Head(length) => self.request(length).await,
                Received::Closed => After::Close,
                Received::Refused(reason, malformed) => self.refuse_unparsed(reason, Some(malformed)).await,
                Received::TimedOut => self.refuse_unparsed(Reason::HeaderTimeout, None).await,
            };
            is_first = false;
            match after {
                After::KeepAlive => {}
                After::Close => break,
                After::Linger => {
                    self.linger().await;
                    break;
                }
                After::Abort => {
                    self.stream.reset_on_close();
                    break;
                }
            }
        }
        self.received.take().into_iter().for_each(|buffer| self.worker.buffers.put(buffer));
    }

    async fn request(&mut self, head_bytes: usize) -> After {
        let started = Instant::now();
        let Some(buffer) = &self.received else { return After::Close };
        let prepared = prepare(self, &buffer.filled()[..head_bytes], started);
        self.consume(head_bytes);
        match prepared {
            Ok(request) => Box::pin(exchange::run(self, request)).await,
            Err(refusal) => Box::pin(self.refuse(*refusal)).await,
        }
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(mut buffer) = self.received.take() {
            buffer.start += bytes;
            if buffer.is_empty() {
                self.worker.buffers.put(buffer);
            } else {
                self.received = Some(buffer);
            }
        }
    }

    /// Waits for the next head. Until its first byte arrives nothing is held; the deadline is the
    /// keepalive's, from then on the head's.
    async fn receive_head(&mut self, is_first: bool) -> Received {
        if self.received.is_none() {
            self.deadline.set(if is_first { timeouts::HEADER } else { timeouts::KEEPALIVE });
            let Self { stream, worker, deadline, .. } = self;
            let waited = deadline.bound(|context| match poll_fill(context, stream, &worker.buffers, false) {
                Poll::Pending if worker.is_draining() => Poll::Ready(Ok(None)),
                polled => polled,
            });
            match waited.await {
                Ok(Ok(Some(buffer))) => self.received = Some(buffer),
                Ok(Ok(None) | Err(_)) | Err(_) => return Received::Closed,
            }
        }
        let mut scan = HeadScan::default();
        let mut is_waiting = false;
        loop {
            match self.scan(&mut scan) {
                Ok(Some(length)) => return Received::Head(length),
                Ok(None) => {}
                Err(malformed) => return Received::Refused(reason_of(malformed), malformed),
            }
            if !is_waiting {
                self.deadline.set(timeouts::HEADER);
                is_waiting = true;
            }
            match self.receive_more().await {
                Ok(0) => return Received::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Received::TimedOut,
                Err(_) => return Received::Closed,
            }
        }
    }

    /// The length of the head that begins what was received, once it is complete.
    fn scan(&mut self, scan: &mut HeadScan) -> Result<Option<usize>, Malformed> {
        let Some(buffer) = &mut self.received else { return Ok(None) };
        // RFC 9112 section 2.2: empty lines before a request are ignored.
        while scan.is_fresh() && buffer.filled().starts_with(b"\r\n") {
            buffer.start += 2;
        }
        let filled = buffer.filled();
        if scan.is_fresh() && filled == b"\r" {
            return Ok(None);
        }
        match scan.find_end(filled)? {
            Some(length) if length <= MAX_HEAD_BYTES => Ok(Some(length)),
            Some(_) => Err(Malformed::HeadTooLong),
            None if filled.len() < MAX_HEAD_BYTES => Ok(None),
            None if memchr::memchr(b'\n', &filled[..MAX_TARGET_BYTES]).is_none() => {
                Err(Malformed::TargetTooLong)
            }
            None => Err(Malformed::HeadTooLong),
        }
    }

    async fn receive_more(&mut self) -> io::Result<usize> {
        let Self { stream, received, worker, deadline, .. } = self;
        let buffer = received.get_or_insert_with(|| worker.buffers.take(super::relay::PREFIX_ROOM));
        if buffer.room().is_empty() {
            // A head that begins deep in a buffer of pipelined requests moves to the front of a new one.
            let mut fresh = worker.buffers.take(super::relay::PREFIX_ROOM);
            fresh.append(buffer.filled());
            worker.buffers.put(std::mem::replace(buffer, fresh));
        }
        match deadline.bound(|context| poll_more(context, stream, buffer)).await {
            Ok(read) => read,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn refuse_unparsed(&mut self, reason: Reason, detail: Option<Malformed>) -> After {
        let head_bytes = self.received.as_ref().map_or(0, |buffer| buffer.filled().len());
        let facts = Facts::unknown(Instant::now(), self.worker.request_ids.next(), head_bytes);
        Box::pin(self.refuse(Refusal { facts, reason, detail, app: None })).await
    }

    pub async fn refuse(&mut self, refusal: Refusal) -> After {
        let Refusal { facts, reason, detail, app } = refusal;
        // A body that nobody will read leaves the next request's start unknown.
        let keep_alive = facts.keep_alive && !facts.has_body();
        let response = answer::write(reason, detail, facts.method, keep_alive);
        let sent = self.send(response).await;
        let app_metrics = app.as_ref().map(|app| &app.metrics);
        record::refusal(self, &facts, reason, app_metrics, sent.as_ref().copied().unwrap_or(0));
        match sent {
            Err(_) => After::Close,
            Ok(_) if keep_alive => After::KeepAlive,
            Ok(_) => After::Linger,
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
    async fn linger(&mut self) {
        self.deadline.set(timeouts::LINGER);
        let Self { stream, worker, deadline, received, .. } = self;
        received.take().into_iter().for_each(|buffer| worker.buffers.put(buffer));
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
