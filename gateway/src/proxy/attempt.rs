//! One endpoint is asked: connect or reuse, send, wait for the head, pass the body on.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::net::TcpStream;

use super::client::Client;
use super::dial::connect;
use super::facts::{After, Facts, Outcome};
use super::outgoing::MERGE_BYTES;
use super::relay::{PREFIX_ROOM, Relay, RelayError, poll_more};
use super::timeouts;
use crate::message::encode::{self, Delimiting, Downstream};
use crate::message::response::{MAX_HEAD_BYTES, ResponseHead};
use crate::message::scan::HeadScan;
use crate::message::{Framing, Version};
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::Buffer;

/// Interim responses to one request. 103 and 102 come a few times; a flood of them is an attack.
const MAX_INTERIM: u32 = 16;

/// Why an attempt ended before any of its response reached the client.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    /// Whether sending the request again cannot do twice what it asks for.
    pub is_repeatable: bool,
}

#[derive(Debug)]
pub struct Attempt<'a> {
    client: &'a mut Client,
    facts: &'a Facts,
    upload: Relay,
    /// The endpoint or the client broke the upload off; a response may still come.
    upload_failure: Option<Reason>,
    response: Option<Buffer>,
    interims: u32,
    /// Whether a reset by the client would be noticed while nothing is read from it.
    watches_client: bool,
    outcome: Outcome,
}

impl<'a> Attempt<'a> {
    pub fn new(
        client: &'a mut Client,
        facts: &'a Facts,
        endpoint: Arc<PooledEndpoint>,
        retries: u32,
        head: Vec<u8>,
    ) -> Self {
        let delimiting =
            if facts.framing == Framing::Chunked { Delimiting::Chunked } else { Delimiting::Plain };
        let attempted = Instant::now();
        Self {
            client,
            facts,
            upload: Relay::new(facts.framing, delimiting, head),
            upload_failure: None,
            response: None,
            interims: 0,
            watches_client: true,
            outcome: Outcome {
                endpoint,
                is_reused: false,
                retries,
                attempted,
                responded: None,
                status: 0,
                failure: None,
                received_bytes: 0,
                sent_bytes: 0,
                body_bytes: 0,
            },
        }
    }

    /// The outcome so far.
    pub fn into_outcome(self) -> Outcome {
        self.into_parts().1
    }

    /// The request's head, for another attempt, and the outcome.
    pub fn into_parts(mut self) -> (Vec<u8>, Outcome) {
        let buffers = &self.client.worker.buffers;
        self.upload.release(buffers);
        self.response.take().into_iter().for_each(|buffer| buffers.put(buffer));
        self.outcome.received_bytes = self.facts.head_bytes as u64 + self.upload.payload;
        (self.upload.into_head(), self.outcome)
    }

    /// # Errors
    /// [`Failure`] while nothing of a final response has reached the client.
    pub async fn run(&mut self) -> Result<After, Failure> {
        let mut upstream = self.open().await?;
        let (response, length) = match self.await_response(&mut upstream).await {
            Ok(found) => found,
            Err(reason) => return Err(self.failure(reason)),
        };
        self.outcome.responded = Some(Instant::now());
        self.outcome.status = response.status;
        Ok(self.respond(upstream, &response, length).await)
    }

    async fn open(&mut self) -> Result<TcpStream, Failure> {
        let worker = self.client.worker.clone();
        let endpoint = self.outcome.endpoint.clone();
        let cells = endpoint.metrics.cells(worker.index);
        // A second attempt after a reset wants a connection that nobody has had time to close.
        if self.outcome.retries == 0
            && let Some(idle) = worker.upstreams.take(endpoint.live.id)
        {
            cells.reuses.increment();
            self.outcome.is_reused = true;
            return Ok(idle);
        }
        match connect(endpoint.address, &self.client.deadline).await {
            Ok(stream) => {
                cells.connects.increment();
                Ok(stream)
            }
            Err(error) if is_ours(&error) => {
                worker.upstreams.clear();
                Err(Failure { reason: Reason::OutOfSockets, is_repeatable: false })
            }
            Err(error) => {
                cells.connect_failures.increment();
                let timed_out = error.kind() == io::ErrorKind::TimedOut;
                let reason = match (self.client.is_aborting(), timed_out) {
                    (true, _) => Reason::Shutdown,
                    (false, true) => Reason::ConnectTimeout,
                    (false, false) => Reason::ConnectFailed,
                };
                // Not a byte was sent, so any method may go elsewhere.
                Err(Failure { reason, is_repeatable: true })
            }
        }
    }

    fn failure(&self, reason: Reason) -> Failure {
        // RFC 9110 section 9.2.2: what is idempotent, or was never sent. A body that was begun is gone.
        let cannot_double = self.facts.method.is_idempotent() || self.upload.sent() == 0;
        let is_repeatable = reason == Reason::UpstreamReset && cannot_double && !self.facts.has_body();
        Failure { reason, is_repeatable }
    }

    /// Sends the request, and its body as it comes, until a final response's head has arrived; interim
    /// ones are passed on.
    async fn await_response(&mut self, upstream: &mut TcpStream) -> Result<(ResponseHead, usize), Reason> {
        loop {
            self.client.deadline.set(timeouts::RESPONSE);
            let mut scan = HeadScan::default();
            let length = poll_fn(|context| match self.poll_head(context, upstream, &mut scan) {
                Poll::Pending if self.client.deadline.has_passed() => Poll::Ready(Err(self.timed_out())),
                polled => polled,
            })
            .await?;
            let head = self.response.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..length]);
            let response =
                ResponseHead::parse(head, self.facts.method).map_err(|_| Reason::UpstreamBadResponse)?;
            if !response.is_interim() {
                return Ok((response, length));
            }
            self.interims += 1;
            // 101 answers an Upgrade field, and none was sent (RFC 9110 section 15.2.2).
            if response.status == 101 || self.interims > MAX_INTERIM {
                return Err(Reason::UpstreamBadResponse);
            }
            let mut out = Vec::new();
            if self.facts.version == Version::Http11 {
                encode::interim(&response, head, &mut out);
            }
            self.consume_head(length);
            self.outcome.sent_bytes += self.client.send(out).await.map_err(|_| Reason::ClientAbort)?;
        }
    }

    /// Ready with the length of the next head.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        upstream: &mut TcpStream,
        scan: &mut HeadScan,
    ) -> Poll<Result<usize, Reason>> {
        if self.poll_upload(context, upstream) {
            self.client.deadline.set(timeouts::RESPONSE);
        }
        if let Some(reason) = self.client_failure(context) {
            return Poll::Ready(Err(reason));
        }
        loop {
            if let Some(buffer) = &self.response {
                match scan.find_end(buffer.filled()) {
                    Ok(Some(length)) if length <= MAX_HEAD_BYTES => return Poll::Ready(Ok(length)),
                    Ok(None) if buffer.filled().len() < MAX_HEAD_BYTES => {}
                    _ => return Poll::Ready(Err(Reason::UpstreamBadResponse)),
                }
            }
            let is_begun = self.response.is_some();
            let buffers = &self.client.worker.buffers;
            let mut buffer = self.response.take().unwrap_or_else(|| buffers.take(PREFIX_ROOM));
            if buffer.room().is_empty() {
                // Interim responses have used it up.
                buffer = buffers.make_room(buffer, PREFIX_ROOM);
            }
            let polled = poll_more(context, upstream, &mut buffer);
            if is_begun || matches!(polled, Poll::Ready(Ok(1..))) {
                self.response = Some(buffer);
            } else {
                buffers.put(buffer);
            }
            match ready!(polled) {
                Ok(1..) => {}
                _ if is_begun => return Poll::Ready(Err(Reason::UpstreamBadResponse)),
                Ok(0) | Err(_) => return Poll::Ready(Err(Reason::UpstreamReset)),
            }
        }
    }

    /// Sends what there is of the request; whether that was anything. A failure ends the upload and not
    /// yet the attempt: an endpoint may answer and close without reading the rest.
    fn poll_upload(&mut self, context: &mut Context<'_>, upstream: &mut TcpStream) -> bool {
        if self.upload.is_done() || self.upload_failure.is_some() {
            return false;
        }
        let before = self.upload.payload + self.upload.sent();
        let Client { stream, worker, received, .. } = &mut *self.client;
        let polled = self.upload.poll(context, stream, upstream, received, &worker.buffers);
        self.upload_failure = match polled {
            Poll::Ready(Err(RelayError::Source)) => Some(Reason::ClientAbort),
            Poll::Ready(Err(RelayError::Malformed(malformed))) => Some(malformed.into()),
            Poll::Ready(Err(RelayError::Sink)) => Some(Reason::UpstreamReset),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        self.upload.payload + self.upload.sent() != before
    }

    /// Why the request can never be completed, if it is the client's doing.
    fn client_failure(&mut self, context: &mut Context<'_>) -> Option<Reason> {
        // While a body is read, reading notices. A FIN is no failure: it may be half a close.
        if self.watches_client && self.upload.is_done() {
            match self.client.stream.poll_reset(context) {
                Poll::Pending => {}
                Poll::Ready(true) => return Some(Reason::ClientAbort),
                Poll::Ready(false) => self.watches_client = false,
            }
        }
        self.upload_failure.filter(|reason| matches!(reason, Reason::BadBody | Reason::ClientAbort))
    }

    /// Who kept us waiting for a response's head.
    fn timed_out(&self) -> Reason {
        if self.client.is_aborting() {
            return Reason::Shutdown;
        }
        let may_send = !self.facts.expects_continue || self.interims > 0;
        let awaits_client = !self.upload.is_done() && !self.upload.is_sending() && may_send;
        if awaits_client { Reason::BodyTimeout } else { Reason::UpstreamTimeout }
    }

    fn consume_head(&mut self, length: usize) {
        if let Some(buffer) = &mut self.response {
            buffer.start += length;
        }
        if self.response.as_ref().is_some_and(Buffer::is_empty) {
            self.response.take().into_iter().for_each(|buffer| self.client.worker.buffers.put(buffer));
        }
    }

    /// Passes the response on, while the request's body may still be coming.
    async fn respond(&mut self, mut upstream: TcpStream, response: &ResponseHead, length: usize) -> After {
        let keep_alive = self.facts.keep_alive
            && self.upload.is_done()
            && !encode::needs_close(response.framing, self.facts.version)
            && !self.client.is_draining();
        let downstream = Downstream { version: self.facts.version, keep_alive };
        let head = self.response.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..length]);
        let body = self.response.as_ref().map_or(0, |buffer| buffer.filled().len() - length);
        let mut out = Vec::with_capacity(length + ADDED_BYTES + body.min(MERGE_BYTES));
        let delimiting = encode::response(response, head, downstream, &mut out);
        self.consume_head(length);
        let mut download = Relay::new(response.framing, delimiting, out);
        let failure = self.pass_body(&mut upstream, &mut download).await.err();
        self.outcome.sent_bytes += download.sent();
        self.outcome.body_bytes = download.payload;
        self.outcome.failure = failure;
        download.release(&self.client.worker.buffers);
        if failure.is_some() {
            return After::Abort;
        }
        let is_reusable = response.keep_alive
            && response.framing != Framing::UntilClose
            && self.upload.is_done()
            && self.upload_failure.is_none()
            // Bytes after the response belong to no request.
            && self.response.is_none();
        if is_reusable {
            let worker = &self.client.worker;
            worker.upstreams.put(self.outcome.endpoint.live.id, upstream, worker.open_connections());
        }
        if keep_alive {
            After::KeepAlive
        } else if self.upload.is_done() && self.facts.has_body() {
            // A whole body was read; whether more follows is as for a request without one.
            self.client.after_last(&Facts { framing: Framing::None, log: None, ..*self.facts })
        } else {
            self.client.after_last(self.facts)
        }
    }

    async fn pass_body(&mut self, upstream: &mut TcpStream, download: &mut Relay) -> Result<(), Reason> {
        self.client.deadline.set(timeouts::BODY);
        let mut progress = 0;
        poll_fn(|context| {
            let uploaded = self.poll_upload(context, upstream);
            if let Some(reason) = self.client_failure(context) {
                return Poll::Ready(Err(reason));
            }
            let Client { stream, worker, listener, deadline, .. } = &mut *self.client;
            let polled = download.poll(context, upstream, stream, &mut self.response, &worker.buffers);
            let now = download.payload + download.sent();
            // What a client uploads does not excuse it from taking what it is sent.
            if now != progress || uploaded && !download.is_sending() {
                progress = now;
                deadline.set(timeouts::BODY);
            }
            match polled {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(RelayError::Sink)) => Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Ready(Err(_)) => Poll::Ready(Err(Reason::UpstreamTruncated)),
                Poll::Pending if listener.ending.is_aborting() => Poll::Ready(Err(Reason::Shutdown)),
                Poll::Pending if !deadline.has_passed() => Poll::Pending,
                Poll::Pending if download.is_sending() => Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Pending => Poll::Ready(Err(Reason::UpstreamTruncated)),
            }
        })
        .await
    }
}

/// The system's word for "you have no socket left", which is no endpoint's fault.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What a response's head may gain: framing and Connection, so that writing it allocates once. A short
/// body is merged into it.
const ADDED_BYTES: usize = 256;
