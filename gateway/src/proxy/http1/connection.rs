//! One client connection: request after request, without a buffer in between.

use std::io;
use std::task::Poll;
use std::time::Instant;

use super::super::client::Client;
use super::super::facts::{After, Facts, Refusal};
use super::super::fill::{PREFIX_ROOM, poll_fill, poll_more};
use super::super::prepare::prepare;
use super::super::{exchange, http2, refuse, timeouts};
use super::Http1;
use crate::message::Malformed;
use crate::message::scan::HeadScan;
use crate::reason::Reason;
use crate::worker::{Buffer, IDLE_TICKS, Step};

enum Received {
    /// The client opens with HTTP/2's preface (RFC 9113 section 3.3).
    Preface,
    /// A head of this many bytes, at the start of what was received.
    Head(usize),
    /// The client has gone, or has nothing more to say.
    Closed,
    Malformed(Malformed),
    TimedOut,
}

/// Serves the client until one side closes. Whatever is larger than waiting for a request is boxed, so
/// that an idle connection stays small.
pub async fn serve(mut client: Client<Http1>) {
    let mut is_first = true;
    let mut left = client.origin.listener.limits.max_requests;
    loop {
        let after = match receive_head(&mut client, is_first).await {
            Received::Head(length) => {
                left -= 1;
                request(&mut client, length, left > 0).await
            }
            Received::Preface => return http2::connection::take_over(client).await,
            Received::Closed => After::Close,
            Received::Malformed(malformed) => {
                Box::pin(unparsed(&mut client, malformed.into(), Some(malformed))).await
            }
            Received::TimedOut => Box::pin(unparsed(&mut client, Reason::HeaderTimeout, None)).await,
        };
        is_first = false;
        match after {
            After::KeepAlive => continue,
            After::Close => Box::pin(client.say_goodbye()).await,
            After::Linger => Box::pin(client.linger()).await,
            After::Abort => client.wire.stream.reset_on_close(),
        }
        break;
    }
    client.release();
}

/// A head that could not be understood or never came to its end.
async fn unparsed(client: &mut Client<Http1>, reason: Reason, detail: Option<Malformed>) -> After {
    let head_bytes = client.wire.received.as_ref().map_or(0, |buffer| buffer.filled().len());
    let facts = Facts::unknown(Instant::now(), client.worker.request_ids.next(), head_bytes);
    refuse::refuse(client, Refusal { facts, reason, detail, app: None, location: None }).await
}

/// `may_go_on`: the connection may have another one after it.
async fn request(client: &mut Client<Http1>, head_bytes: usize, may_go_on: bool) -> After {
    let started = Instant::now();
    let Some(buffer) = &client.wire.received else { return After::Close };
    let mut prepared = prepare(client, &buffer.filled()[..head_bytes], started);
    client.consume(head_bytes);
    if !may_go_on {
        client.origin.listener.cells.used_up.increment();
        match &mut prepared {
            Ok(request) => request.facts.keep_alive = false,
            Err(refusal) => refusal.facts.keep_alive = false,
        }
    }
    match prepared {
        Ok(request) => Box::pin(exchange::run(client, request)).await,
        Err(refusal) => Box::pin(refuse::refuse(client, *refusal)).await,
    }
}

/// Waits for the next head. Until its first byte arrives nothing is held; the deadline is the
/// keepalive's, from then on the head's.
async fn receive_head(client: &mut Client<Http1>, is_first: bool) -> Received {
    let mut scan = HeadScan::default();
    while skip_empty_lines(client) {
        match receive_first(client, is_first).await {
            Some(buffer) => client.wire.received = Some(buffer),
            None => return Received::Closed,
        }
    }
    let mut is_waiting = false;
    loop {
        match find_head(client, &mut scan) {
            Ok(Some(_)) if is_first && begins_with_preface(client) => return Received::Preface,
            Ok(Some(length)) => return Received::Head(length),
            Ok(None) => {}
            Err(malformed) => return Received::Malformed(malformed),
        }
        if !is_waiting {
            client.deadline.set(client.origin.listener.limits.header_timeout);
            is_waiting = true;
            client.wire.received =
                client.wire.received.take().map(|buffer| client.worker.buffers.shrink(buffer, PREFIX_ROOM));
        }
        match receive_more(client).await {
            Ok(0) => return Received::Closed,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Received::TimedOut,
            Err(_) => return Received::Closed,
        }
    }
}

/// The first bytes of a request; `None` when there will be none.
async fn receive_first(client: &mut Client<Http1>, is_first: bool) -> Option<Buffer> {
    let limits = &client.origin.listener.limits;
    client.deadline.set(if is_first { limits.header_timeout } else { limits.keepalive_timeout });
    let Client { wire: Http1 { stream, .. }, worker, origin, deadline } = client;
    let (mut is_last_call, since) = (false, worker.deadlines.now());
    let waited = deadline.bound(|context| match poll_fill(context, stream, &worker.buffers, false) {
        Poll::Pending if origin.closes_idle() && !is_first => Poll::Ready(Ok(None)),
        Poll::Pending
            if !is_first
                && worker.sheds(Step::Idle)
                && worker.deadlines.now() - since >= IDLE_TICKS
                && worker.gives_up(Step::Idle) =>
        {
            Poll::Ready(Ok(None))
        }
        Poll::Pending if origin.closes_idle() && !is_last_call => {
            is_last_call = true;
            deadline.set(timeouts::LAST_CALL);
            Poll::Pending
        }
        polled => polled,
    });
    match waited.await {
        Ok(received) => received.ok()?,
        Err(_) => {
            if !is_first && !origin.is_draining() {
                origin.listener.cells.idled_out.increment();
            }
            None
        }
    }
}

/// RFC 9112 section 2.2: empty lines before a request are ignored. Returns whether nothing is left.
fn skip_empty_lines(client: &mut Client<Http1>) -> bool {
    let Some(buffer) = &mut client.wire.received else { return true };
    while buffer.filled().starts_with(b"\r\n") {
        buffer.start += EMPTY_LINE;
    }
    let is_empty = buffer.is_empty();
    if is_empty {
        client.release();
    }
    is_empty
}

/// The length of the head that begins what was received, once it is complete.
fn find_head(client: &mut Client<Http1>, scan: &mut HeadScan) -> Result<Option<usize>, Malformed> {
    let Some(buffer) = &mut client.wire.received else { return Ok(None) };
    let mut found = scan.find_end(buffer.filled());
    while found == Ok(Some(EMPTY_LINE)) {
        // Its first half had come alone.
        buffer.start += EMPTY_LINE;
        *scan = HeadScan::default();
        found = scan.find_end(buffer.filled());
    }
    let filled = buffer.filled();
    let limits = client.origin.listener.limits.head;
    match found? {
        Some(length) if length <= limits.bytes => Ok(Some(length)),
        None if filled.len() < limits.bytes => Ok(None),
        _ if has_long_line(filled, limits.target) => Err(Malformed::TargetTooLong),
        _ => Err(Malformed::HeadTooLong),
    }
}

/// Whether it is the request line that is too long.
fn has_long_line(head: &[u8], most: usize) -> bool {
    head.get(..most).is_some_and(|line| memchr::memchr(b'\n', line).is_none())
}

/// A head like no other: whoever sends it speaks HTTP/2 and knows that we do.
fn begins_with_preface(client: &Client<Http1>) -> bool {
    client.origin.listener.http2
        && client.wire.received.as_ref().is_some_and(|buffer| buffer.filled().starts_with(PREFACE_HEAD))
}

/// What [`HeadScan`] takes for a head.
const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// CR LF.
const EMPTY_LINE: usize = 2;

async fn receive_more(client: &mut Client<Http1>) -> io::Result<usize> {
    let Client { wire: Http1 { stream, received }, worker, deadline, .. } = client;
    let mut buffer = received.take().unwrap_or_else(|| worker.buffers.take(PREFIX_ROOM));
    if buffer.room().is_empty() {
        // It outgrew a small one, or begins deep in one of pipelined requests.
        buffer = worker.buffers.make_room(buffer, PREFIX_ROOM);
    }
    let buffer = received.insert(buffer);
    match deadline.bound(|context| poll_more(context, stream, buffer)).await {
        Ok(read) => read,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
