//! A body on its way into an HTTP/2 stream, no faster than its window opens.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::http2::Account;

/// A window that has room for less than this is no window: the least that RFC 9113 section 6.9.2 starts
/// with is 64 times as much.
const FAIR_BYTES: usize = 1 << 10;

/// The stream was reset, or its connection is gone.
#[derive(Debug)]
pub struct Closed;

/// At most one frame's worth of payload, and the end.
#[derive(Debug, Default)]
pub struct FramesOut {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// Nothing follows what is held.
    is_over: bool,
    /// The peer has been told.
    is_ended: bool,
    /// Payload bytes handed to the connection within the stream's window.
    pub sent: u64,
}

impl FramesOut {
    /// `is_ended`: the head said that nothing follows.
    pub fn new(is_ended: bool) -> Self {
        Self { is_over: is_ended, is_ended, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.is_over == self.is_ended
    }

    /// All of the former piece must have been sent.
    pub fn push(&mut self, data: Bytes) {
        debug_assert!(self.data.is_empty());
        self.data = data;
    }

    /// Nothing follows but `trailers`.
    pub fn end(&mut self, trailers: Option<HeaderMap>) {
        self.is_over = true;
        self.trailers = trailers.filter(|trailers| !trailers.is_empty());
    }

    /// # Errors
    /// [`Closed`].
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        account: Option<&Account>,
    ) -> Poll<Result<(), Closed>> {
        while !self.data.is_empty() {
            let room = ready!(poll_room(context, stream, self.data.len()))?;
            let part = self.data.split_to(room.min(self.data.len()));
            self.sent += part.len() as u64;
            // A window that is opened byte by byte earns nothing.
            if self.data.is_empty() || part.len() >= FAIR_BYTES {
                account.into_iter().for_each(Account::delivered);
            }
            self.is_ended = self.is_over && self.data.is_empty() && self.trailers.is_none();
            stream.send_data(part, self.is_ended).map_err(|_| Closed)?;
        }
        if self.is_over && !self.is_ended {
            self.is_ended = true;
            match self.trailers.take() {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            }
            .map_err(|_| Closed)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// How much of `wanted` bytes the stream takes now.
fn poll_room(
    context: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<Result<usize, Closed>> {
    stream.reserve_capacity(wanted);
    // `poll_capacity` speaks of changes only.
    let room = stream.capacity();
    if room > 0 {
        return Poll::Ready(Ok(room));
    }
    match ready!(stream.poll_capacity(context)) {
        Some(Ok(room)) => Poll::Ready(Ok(room)),
        Some(Err(_)) | None => Poll::Ready(Err(Closed)),
    }
}
