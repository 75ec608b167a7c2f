//! One client connection: request after request, without a buffer in between.

use std::io;
use std::task::Poll;
use std::time::Instant;

use super::client::Client;
use super::facts::After;
use super::prepare::prepare;
use super::relay::{PREFIX_ROOM, poll_fill, poll_more};
use super::{exchange, refuse, timeouts};
use crate::message::Malformed;
use crate::message::request::{MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use crate::message::scan::HeadScan;
use crate::reason::Reason;

enum Received {
    /// A head of this many bytes, at the start of what was received.
    Head(usize),
    /// The client has gone, or has nothing more to say.
    Closed,
    Malformed(Malformed),
    TimedOut,
}

/// Serves the client until one side closes. Whatever is larger than waiting for a request is boxed, so
/// that an idle connection stays small.
pub async fn serve(mut client: Client) {
    let mut is_first = true;
    loop {
        let after = match receive_head(&mut client, is_first).await {
            Received::Head(length) => request(&mut client, length).await,
            Received::Closed => After::Close,
            Received::Malformed(malformed) => {
                Box::pin(refuse::unparsed(&mut client, malformed.into(), Some(malformed))).await
            }
            Received::TimedOut => Box::pin(refuse::unparsed(&mut client, Reason::HeaderTimeout, None)).await,
        };
        is_first = false;
        match after {
            After::KeepAlive => continue,
            After::Close => {}
            After::Linger => Box::pin(client.linger()).await,
            After::Abort => client.stream.reset_on_close(),
        }
        break;
    }
    client.release();
}

async fn request(client: &mut Client, head_bytes: usize) -> After {
    let started = Instant::now();
    let Some(buffer) = &client.received else { return After::Close };
    let prepared = prepare(client, &buffer.filled()[..head_bytes], started);
    client.consume(head_bytes);
    match prepared {
        Ok(request) => Box::pin(exchange::run(client, request)).await,
        Err(refusal) => Box::pin(refuse::refuse(client, *refusal)).await,
    }
}

/// Waits for the next head. Until its first byte arrives nothing is held; the deadline is the
/// keepalive's, from then on the head's.
async fn receive_head(client: &mut Client, is_first: bool) -> Received {
    if client.received.is_none() {
        client.deadline.set(if is_first { timeouts::HEADER } else { timeouts::KEEPALIVE });
        let Client { stream, worker, deadline, .. } = client;
        let waited = deadline.bound(|context| match poll_fill(context, stream, &worker.buffers, false) {
            Poll::Pending if worker.is_draining() => Poll::Ready(Ok(None)),
            polled => polled,
        });
        match waited.await {
            Ok(Ok(Some(buffer))) => client.received = Some(buffer),
            Ok(Ok(None) | Err(_)) | Err(_) => return Received::Closed,
        }
    }
    let mut scan = HeadScan::default();
    let mut is_waiting = false;
    loop {
        match find_head(client, &mut scan) {
            Ok(Some(length)) => return Received::Head(length),
            Ok(None) => {}
            Err(malformed) => return Received::Malformed(malformed),
        }
        if !is_waiting {
            client.deadline.set(timeouts::HEADER);
            is_waiting = true;
        }
        match receive_more(client).await {
            Ok(0) => return Received::Closed,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Received::TimedOut,
            Err(_) => return Received::Closed,
        }
    }
}

/// The length of the head that begins what was received, once it is complete.
fn find_head(client: &mut Client, scan: &mut HeadScan) -> Result<Option<usize>, Malformed> {
    let Some(buffer) = &mut client.received else { return Ok(None) };
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
        None if memchr::memchr(b'\n', &filled[..MAX_TARGET_BYTES]).is_none() => Err(Malformed::TargetTooLong),
        None => Err(Malformed::HeadTooLong),
    }
}

async fn receive_more(client: &mut Client) -> io::Result<usize> {
    let Client { stream, received, worker, deadline, .. } = client;
    let buffer = received.get_or_insert_with(|| worker.buffers.take(PREFIX_ROOM));
    if buffer.room().is_empty() {
        // A head that begins deep in a buffer of pipelined requests moves to the front of a new one.
        let mut fresh = worker.buffers.take(PREFIX_ROOM);
        fresh.append(buffer.filled());
        worker.buffers.put(std::mem::replace(buffer, fresh));
    }
    match deadline.bound(|context| poll_more(context, stream, buffer)).await {
        Ok(read) => read,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
