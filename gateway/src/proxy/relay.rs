//! One body on its way from one socket to another: read, check where it ends, frame it for the next
//! hop, send. Nothing more is read until what was read is sent, so a slow receiver slows its sender
//! and memory stays where it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::outgoing::Outgoing;
use crate::message::chunked::{self, ChunkedDecoder};
use crate::message::encode::Delimiting;
use crate::message::{Framing, Malformed};
use crate::worker::{Buffer, Buffers};

/// Room before what is read, for a chunk's size line: 16 digits, CR LF.
pub const PREFIX_ROOM: usize = 18;
/// A sender that filled this many usual buffers in a row, to a receiver that took them whole, gets
/// large ones.
const FULL_READS: u8 = 2;

/// Where a body ends, and how far it is.
#[derive(Debug)]
enum Decoder {
    Done,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

#[derive(Debug)]
pub enum RelayError {
    /// The sender failed, or closed before the body's end.
    Source,
    Malformed(Malformed),
    /// The receiver failed.
    Sink,
}

#[derive(Debug)]
pub struct Relay {
    decoder: Decoder,
    delimiting: Delimiting,
    outgoing: Outgoing,
    full_reads: u8,
    /// Payload bytes so far.
    pub payload: u64,
}

impl Relay {
    pub fn new(framing: Framing, delimiting: Delimiting, head: Vec<u8>) -> Self {
        let decoder = match framing {
            Framing::None | Framing::Length(0) => Decoder::Done,
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Box::default()),
            Framing::UntilClose => Decoder::UntilClose,
        };
        Self { decoder, delimiting, outgoing: Outgoing::starting_with(head), full_reads: 0, payload: 0 }
    }

    /// Whether the whole body has been received and sent.
    pub fn is_done(&self) -> bool {
        matches!(self.decoder, Decoder::Done) && self.outgoing.is_empty()
    }

    /// Whether it waits for the receiver rather than for the sender.
    pub fn is_sending(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Bytes that the receiver's socket took, heads and framing included.
    pub fn sent(&self) -> u64 {
        self.outgoing.sent
    }

    /// What was given to [`Self::new`], where no body was merged into it.
    pub fn into_head(self) -> Vec<u8> {
        self.outgoing.into_head()
    }

    /// Goes on until the body is through. `carried` are bytes received before; what follows the body is
    /// left there.
    pub fn poll<S, K>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut S,
        sink: &mut K,
        carried: &mut Option<Buffer>,
        buffers: &Buffers,
    ) -> Poll<Result<(), RelayError>>
    where
        S: AsyncRead + Unpin,
        K: AsyncWrite + Unpin,
    {
        loop {
            let has_body = !matches!(self.decoder, Decoder::Done);
            if has_body && let Some(buffer) = carried.take() {
                // Before the head is sent, so that both travel together.
                self.take_in(buffer, carried, buffers)?;
            }
            match self.outgoing.poll_send(context, sink, buffers) {
                Poll::Ready(sent) => sent.map_err(|_| RelayError::Sink)?,
                Poll::Pending => {
                    self.full_reads = 0;
                    return Poll::Pending;
                }
            }
            // TLS holds records back until the socket takes them.
            let flushed = Pin::new(&mut *sink).poll_flush(context).map_err(|_| RelayError::Sink)?;
            if matches!(self.decoder, Decoder::Done) {
                return flushed.map(Ok);
            }
            if carried.is_none() {
                let large = self.full_reads >= FULL_READS;
                match ready!(poll_fill(context, source, buffers, large)).map_err(|_| RelayError::Source)? {
                    Some(buffer) => *carried = Some(buffer),
                    None => self.end_of_source()?,
                }
            }
        }
    }

    fn take_in(
        &mut self,
        mut buffer: Buffer,
        carried: &mut Option<Buffer>,
        buffers: &Buffers,
    ) -> Result<(), RelayError> {
        let full = buffer.room().is_empty();
        self.full_reads = if full { self.full_reads.saturating_add(1) } else { 0 };
        let (payload, consumed) = self.decode(buffer.filled_mut()).map_err(RelayError::Malformed)?;
        self.payload += payload as u64;
        let rest = buffer.filled().len() - consumed;
        if rest > payload {
            // Many small requests in one buffer: the body moves, and the rest stays where it is.
            let body = copy(&buffer.filled()[..payload], buffers);
            buffer.start += consumed;
            *carried = Some(std::mem::replace(&mut buffer, body));
        } else if rest > 0 {
            *carried = Some(copy(&buffer.filled()[consumed..], buffers));
            buffer.end = buffer.start + payload;
        } else {
            buffer.end = buffer.start + payload;
        }
        if self.delimiting == Delimiting::Chunked {
            if payload > 0 {
                let mut size_line = [0; PREFIX_ROOM];
                buffer.surround(chunk_size_line(payload, &mut size_line), b"\r\n");
            }
            self.write_end();
        }
        self.outgoing.push_body(buffer, buffers);
        if matches!(&self.decoder, Decoder::Chunked(decoder) if decoder.is_done()) {
            self.decoder = Decoder::Done;
        }
        Ok(())
    }

    /// Payload and bytes consumed of `input`, whose front the payload then is.
    fn decode(&mut self, input: &mut [u8]) -> Result<(usize, usize), Malformed> {
        match &mut self.decoder {
            Decoder::Done => Ok((0, 0)),
            Decoder::UntilClose => Ok((input.len(), input.len())),
            Decoder::Length(remaining) => {
                let take = (input.len() as u64).min(*remaining);
                *remaining -= take;
                if *remaining == 0 {
                    self.decoder = Decoder::Done;
                }
                Ok((take as usize, take as usize))
            }
            Decoder::Chunked(decoder) => {
                decoder.decode(input).map(|decoded| (decoded.payload, decoded.consumed))
            }
        }
    }

    /// What ends a chunked body, once it has ended.
    fn write_end(&mut self) {
        match &self.decoder {
            Decoder::Chunked(decoder) if decoder.is_done() => decoder.write_end(self.outgoing.tail()),
            Decoder::Done => self.outgoing.tail().extend_from_slice(chunked::LAST_CHUNK),
            _ => {}
        }
    }

    fn end_of_source(&mut self) -> Result<(), RelayError> {
        if !matches!(self.decoder, Decoder::UntilClose) {
            return Err(RelayError::Source);
        }
        self.decoder = Decoder::Done;
        if self.delimiting == Delimiting::Chunked {
            self.write_end();
        }
        Ok(())
    }

    /// Returns what is still held.
    pub fn release(&mut self, buffers: &Buffers) {
        self.outgoing.release(buffers);
    }
}

/// Reads into a buffer of its own; none is held while there is nothing to read. `None`: the source has ended.
pub fn poll_fill<S>(
    context: &mut Context<'_>,
    source: &mut S,
    buffers: &Buffers,
    large: bool,
) -> Poll<io::Result<Option<Buffer>>>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = if large { buffers.take_large(PREFIX_ROOM) } else { buffers.take(PREFIX_ROOM) };
    let polled = poll_more(context, source, &mut buffer);
    if let Poll::Ready(Ok(read)) = polled
        && read > 0
    {
        return Poll::Ready(Ok(Some(buffer)));
    }
    buffers.put(buffer);
    polled.map_ok(|_| None)
}

/// Reads what fits behind what `buffer` holds.
pub fn poll_more<S>(context: &mut Context<'_>, source: &mut S, buffer: &mut Buffer) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    let mut room = ReadBuf::new(buffer.room());
    ready!(Pin::new(source).poll_read(context, &mut room))?;
    let read = room.filled().len();
    buffer.end += read;
    Poll::Ready(Ok(read))
}

/// `bytes` in a buffer of their own, which is as large as they need.
fn copy(bytes: &[u8], buffers: &Buffers) -> Buffer {
    let mut copied = buffers.take_fitting(PREFIX_ROOM, bytes.len());
    copied.append(bytes);
    copied
}

fn chunk_size_line(size: usize, line: &mut [u8; PREFIX_ROOM]) -> &[u8] {
    line[PREFIX_ROOM - 2..].copy_from_slice(b"\r\n");
    let mut at = PREFIX_ROOM - 2;
    let mut left = size;
    while left > 0 {
        at -= 1;
        line[at] = b"0123456789abcdef"[left & 0xf];
        left >>= 4;
    }
    &line[at..]
}
