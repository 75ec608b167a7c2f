//! Bytes on their way into a socket: a head, a stretch of body, and what ends it, in one system call
//! where they fit.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::worker::{Buffer, Buffers};

/// Copying this much into the head is cheaper than a vectored write.
pub const MERGE_BYTES: usize = 2 << 10;

/// A stretch of body.
#[derive(Debug)]
enum Piece {
    Buffer(Buffer),
    /// Of an HTTP/2 frame.
    Bytes(Bytes),
}

impl Piece {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.filled(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Buffer(buffer) => buffer.start += count,
            Self::Bytes(bytes) => bytes.advance(count),
        }
    }

    fn release(self, buffers: &Buffers) {
        if let Self::Buffer(buffer) = self {
            buffers.put(buffer);
        }
    }
}

#[derive(Debug, Default)]
pub struct Outgoing {
    head: Vec<u8>,
    head_sent: usize,
    body: Option<Piece>,
    tail: Vec<u8>,
    tail_sent: usize,
    /// Bytes that the socket took.
    pub sent: u64,
}

impl Outgoing {
    pub fn starting_with(head: Vec<u8>) -> Self {
        Self { head, ..Self::default() }
    }

    /// The head again, for another attempt.
    pub fn into_head(self) -> Vec<u8> {
        self.head
    }

    pub fn is_empty(&self) -> bool {
        self.head_sent == self.head.len() && self.body.is_none() && self.tail_sent == self.tail.len()
    }

    /// Queues a stretch of body. All of the former one must have been sent.
    pub fn push_body(&mut self, body: Buffer, buffers: &Buffers) {
        debug_assert!(self.body.is_none());
        if body.is_empty() {
            return buffers.put(body);
        }
        if self.head_sent < self.head.len() && body.filled().len() <= MERGE_BYTES {
            self.head.extend_from_slice(body.filled());
            return buffers.put(body);
        }
        self.body = Some(Piece::Buffer(body));
    }

    /// As [`Self::push_body`], of a frame's payload.
    pub fn push_bytes(&mut self, body: Bytes) {
        debug_assert!(self.body.is_none());
        if self.head_sent < self.head.len() && body.len() <= MERGE_BYTES {
            self.head.extend_from_slice(&body);
        } else if !body.is_empty() {
            self.body = Some(Piece::Bytes(body));
        }
    }

    /// A frame's payload as a chunk.
    pub fn push_chunk(&mut self, size_line: &[u8], data: Bytes) {
        self.start_over();
        self.head.extend_from_slice(size_line);
        self.push_bytes(data);
        if self.body.is_none() {
            self.head.extend_from_slice(b"\r\n");
        } else {
            self.tail.extend_from_slice(b"\r\n");
        }
    }

    /// Forgets what has been sent.
    fn start_over(&mut self) {
        if self.head_sent == self.head.len() {
            self.head.clear();
            self.head_sent = 0;
        }
        if self.tail_sent == self.tail.len() {
            self.tail.clear();
            self.tail_sent = 0;
        }
    }

    /// Where to write what follows the body.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Sends until nothing is left or the socket takes no more.
    pub fn poll_send<W>(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut W,
        buffers: &Buffers,
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.is_empty() {
            let written = ready!(self.poll_write(context, sink))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written as u64;
            self.advance(written, buffers);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W>(&self, context: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<usize>>
    where
        W: AsyncWrite + Unpin,
    {
        let head = &self.head[self.head_sent..];
        let body = self.body.as_ref().map_or(&[][..], Piece::as_slice);
        let tail = &self.tail[self.tail_sent..];
        match (head, body, tail) {
            (only, [], []) | ([], only, []) | ([], [], only) => Pin::new(sink).poll_write(context, only),
            _ => {
                let slices = [IoSlice::new(head), IoSlice::new(body), IoSlice::new(tail)];
                Pin::new(sink).poll_write_vectored(context, &slices)
            }
        }
    }

    fn advance(&mut self, written: usize, buffers: &Buffers) {
        let of_head = written.min(self.head.len() - self.head_sent);
        self.head_sent += of_head;
        let mut left = written - of_head;
        if let Some(body) = &mut self.body {
            let of_body = left.min(body.as_slice().len());
            body.advance(of_body);
            left -= of_body;
            if body.as_slice().is_empty() {
                self.body.take().into_iter().for_each(|body| body.release(buffers));
            }
        }
        self.tail_sent += left;
    }

    /// As if all of it had been sent.
    pub fn discard(&mut self, buffers: &Buffers) {
        (self.head_sent, self.tail_sent) = (self.head.len(), self.tail.len());
        self.release(buffers);
        self.start_over();
    }

    /// Returns what is still held.
    pub fn release(&mut self, buffers: &Buffers) {
        self.body.take().into_iter().for_each(|body| body.release(buffers));
    }
}
