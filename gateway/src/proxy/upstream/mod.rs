//! The endpoint's side of a request.

pub mod dial;
mod http2;
pub mod slot;

use std::task::{Context, Poll, ready};

use topology::Protocol;

use self::dial::{DialError, dial};
use self::http2::Exchange;
use super::client::Origin;
use super::facts::{Facts, Heads};
use super::fill::{PREFIX_ROOM, poll_more_up_to};
use super::wire::{Sink, Source};
use crate::listener::Stream;
use crate::listener::tls::Alpn;
use crate::message::response::{MAX_HEAD_BYTES, ResponseHead};
use crate::message::scan::HeadScan;
use crate::message::{FieldKind, Method};
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::{Buffer, Buffers, Deadline, EndpointStream, Ticks, Worker};

/// A connection, or a stream of one, that a request goes to.
#[derive(Debug)]
pub enum Upstream {
    Http1(EndpointStream),
    Http2(Box<Exchange>),
}

/// Why a request could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    Failed,
    TimedOut,
    Tls,
    OutOfSockets,
    /// This endpoint cannot be asked this.
    Refused(Reason),
}

impl From<DialError> for OpenError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Failed => Self::Failed,
            DialError::TimedOut => Self::TimedOut,
            DialError::Tls => Self::Tls,
            DialError::OutOfSockets => Self::OutOfSockets,
            DialError::Full(reason) => Self::Refused(reason),
        }
    }
}

/// Why no response came.
#[derive(Debug, Clone, Copy)]
pub struct Lost {
    pub reason: Reason,
    /// The endpoint has said that it did nothing (RFC 9113 section 8.7).
    pub is_untouched: bool,
}

impl From<Reason> for Lost {
    fn from(reason: Reason) -> Self {
        Self { reason, is_untouched: false }
    }
}

impl Upstream {
    /// A connection that was kept, where `may_reuse`, or a new one; whether it was kept. An HTTP/2
    /// endpoint has been sent the head then.
    ///
    /// # Errors
    /// [`OpenError`]; the endpoint has seen nothing of the request.
    pub async fn open(
        worker: &Worker,
        endpoint: &PooledEndpoint,
        origin: &Origin,
        deadline: &Deadline,
        heads: &mut Heads,
        facts: &Facts,
        may_reuse: bool,
    ) -> Result<(Self, bool), OpenError> {
        if endpoint.protocol == Protocol::Http2 && facts.method != Method::Connect {
            return Box::pin(open_http2(worker, endpoint, origin, deadline, heads, facts)).await;
        }
        if may_reuse
            && endpoint.manner.proxy_protocol.is_none()
            && let Some(idle) = worker.upstreams.take(endpoint.live.id)
        {
            return Ok((Self::Http1(idle), true));
        }
        // Boxed, as all that is rare on a request's way: its future is written anew for each request.
        Ok((Box::pin(open_http1(worker, endpoint, origin, deadline, facts)).await?, false))
    }

    /// Where the request's body goes.
    pub fn sink(&mut self) -> Sink<'_> {
        match self {
            Self::Http1(stream) => Sink::Stream(stream),
            Self::Http2(exchange) => Sink::Frames { stream: &mut exchange.send, account: None },
        }
    }

    /// Where the response's body comes from, once its head has come; `received` came with that.
    pub fn source<'s>(&'s mut self, received: &'s mut Option<Buffer>) -> Source<'s> {
        match self {
            Self::Http1(stream) => Source::Stream { stream, carried: received },
            Self::Http2(exchange) => exchange.body.as_mut().map_or(Source::Ended, Source::Frames),
        }
    }

    pub fn is_framed(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether a response agrees to leave HTTP for `protocol` (RFC 9110 section 7.8, RFC 8441 section 5):
    /// in HTTP/1.1 it names what it switches to, and that must be what was asked for.
    pub fn has_switched(&self, response: &ResponseHead, head: &[u8], protocol: &[u8]) -> bool {
        let mut named = response.fields.all(FieldKind::Upgrade).map(|field| field.value.within(head));
        match self {
            Self::Http1(_) => {
                response.status == 101
                    && response.connection_names(head, b"upgrade")
                    && named.next().is_some_and(|named| named.eq_ignore_ascii_case(protocol))
                    && named.next().is_none()
            }
            Self::Http2(_) => (200..300).contains(&response.status),
        }
    }

    /// Ready with the next head and its length at the start of `received`; `most` is read at once.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        scan: &mut HeadScan,
        received: &mut Option<Buffer>,
        method: Method,
        most: usize,
        buffers: &Buffers,
    ) -> Poll<Result<(Box<ResponseHead>, usize), Lost>> {
        match self {
            Self::Http1(stream) => {
                let length = ready!(poll_head_bytes(context, stream, scan, received, most, buffers))?;
                let head = received.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..length]);
                let parsed = ResponseHead::parse(head, method);
                Poll::Ready(
                    parsed
                        .map(|head| (Box::new(head), length))
                        .map_err(|_| Reason::UpstreamBadResponse.into()),
                )
            }
            Self::Http2(exchange) => {
                let (bytes, head) = ready!(exchange.poll_head(context, method))?;
                let mut buffer = buffers.take_fitting(PREFIX_ROOM, bytes.len());
                buffer.append(&bytes);
                *received = Some(buffer);
                Poll::Ready(Ok((Box::new(head), bytes.len())))
            }
        }
    }

    /// Keeps the connection for the next request, `kept` long; the response was whole.
    pub fn keep(self, worker: &Worker, endpoint: &PooledEndpoint, kept: Ticks) {
        if let Self::Http1(stream) = self
            && endpoint.manner.proxy_protocol.is_none()
        {
            worker.upstreams.put(endpoint.live.id, stream, worker.open_connections(), kept);
        }
    }

    /// Makes the coming close a reset, so that the endpoint does not take a cut stream for a whole one.
    pub fn reset_on_close(&mut self) {
        match self {
            Self::Http1(stream) => stream.reset_on_close(),
            Self::Http2(exchange) => exchange.send.send_reset(h2::Reason::CANCEL),
        }
    }
}

async fn open_http1(
    worker: &Worker,
    endpoint: &PooledEndpoint,
    origin: &Origin,
    deadline: &Deadline,
    facts: &Facts,
) -> Result<Upstream, OpenError> {
    let alpn = if facts.method == Method::Connect { Alpn::None } else { Alpn::Http1 };
    let slot = slot::wait(worker, endpoint, deadline).await?;
    let stream = dial(endpoint, origin.addresses(), deadline, alpn, facts.patience.connect).await?;
    Ok(Upstream::Http1(EndpointStream::new(stream, slot)))
}

async fn open_http2(
    worker: &Worker,
    endpoint: &PooledEndpoint,
    origin: &Origin,
    deadline: &Deadline,
    heads: &mut Heads,
    facts: &Facts,
) -> Result<(Upstream, bool), OpenError> {
    loop {
        let lease =
            http2::lease(worker, endpoint, origin.addresses(), deadline, facts.patience.connect).await?;
        lease.keep_for(facts.patience.kept);
        let is_reused = lease.is_reused;
        if facts.upgrade.is_some() && !lease.sender().is_extended_connect_protocol_enabled() {
            return Err(OpenError::Refused(Reason::UpgradeNotSupported));
        }
        // Another attempt needs it again.
        let head = heads.http2.as_deref().cloned().ok_or(OpenError::Refused(Reason::BadRequest))?;
        let is_all = !facts.has_body() && facts.upgrade.is_none();
        match Exchange::begin(lease, head, is_all) {
            Ok(exchange) => return Ok((Upstream::Http2(Box::new(exchange)), is_reused)),
            // Its endpoint had said that it takes no more; it is not found again.
            Err(_) if is_reused => {}
            Err(_) => return Err(OpenError::Failed),
        }
    }
}

fn poll_head_bytes(
    context: &mut Context<'_>,
    stream: &mut Stream,
    scan: &mut HeadScan,
    received: &mut Option<Buffer>,
    most: usize,
    buffers: &Buffers,
) -> Poll<Result<usize, Lost>> {
    loop {
        if let Some(buffer) = received {
            match scan.find_end(buffer.filled()) {
                Ok(Some(length)) if length <= MAX_HEAD_BYTES => return Poll::Ready(Ok(length)),
                Ok(None) if buffer.filled().len() < MAX_HEAD_BYTES => {}
                _ => return Poll::Ready(Err(Reason::UpstreamBadResponse.into())),
            }
        }
        let is_begun = received.is_some();
        let mut buffer = received.take().unwrap_or_else(|| buffers.take(PREFIX_ROOM));
        if buffer.room().is_empty() {
            // Interim responses have used it up.
            buffer = buffers.make_room(buffer, PREFIX_ROOM);
        }
        let polled = poll_more_up_to(context, stream, &mut buffer, most);
        if is_begun || matches!(polled, Poll::Ready(Ok(1..))) {
            *received = Some(buffer);
        } else {
            buffers.put(buffer);
        }
        match ready!(polled) {
            Ok(1..) => {}
            _ if is_begun => return Poll::Ready(Err(Reason::UpstreamBadResponse.into())),
            Ok(0) | Err(_) => return Poll::Ready(Err(Reason::UpstreamReset.into())),
        }
    }
}
