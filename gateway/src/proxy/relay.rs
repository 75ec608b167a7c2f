//! One body on its way from one connection to another: read, check where it ends, frame it for the next
//! hop, send. Nothing more is read until what was read is sent, so a slow receiver slows its sender
//! and memory stays where it is. HTTP/2's windows open only as far as the other side has taken bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use tokio::io::AsyncWrite;

use super::fill::{PREFIX_ROOM, poll_fill, poll_fill_up_to};
use super::frames::FramesOut;
use super::outgoing::Outgoing;
use super::splice::{Broken, Splicing, Stretch};
use super::tee::Tee;
use super::wire::{Sink, Source, Upward};
use crate::filter::compression::Encoder;
use crate::listener::Stream;
use crate::message::chunked::{self, ChunkedDecoder};
use crate::message::encode::Delimiting;
use crate::message::{Framing, Malformed, http2};
use crate::worker::{Buffer, Buffers, Pipes, Worker};

/// A sender that filled this many usual buffers in a row, to a receiver that took them whole, gets
/// large ones.
const FULL_READS: u8 = 2;

/// Of which as much is left is spliced, or gets large buffers at once: two usual ones full.
const LONG_BYTES: u64 = 128 << 10;

/// What is read at once for an HTTP/2 stream: two frames of the usual size. It is held until the client
/// opens the stream's window, and a client may have more than a hundred streams.
pub const FRAMED_READ: usize = 32 << 10;

/// What is coded before others have their turn: two reads, a millisecond or two.
const CODED_AT_ONCE: u64 = 2 * FRAMED_READ as u64;

/// Where a body ends, and how far it is.
#[derive(Debug)]
pub enum Decoder {
    Done,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
    /// The source's frames say it; how much was taken in and not yet passed on.
    Frames {
        unreleased: usize,
    },
}

impl Decoder {
    pub fn of(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Of a body that comes in frames.
    pub fn frames(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            _ => Self::Frames { unreleased: 0 },
        }
    }
}

#[derive(Debug)]
pub enum RelayError {
    /// The sender failed, or closed before the body's end.
    Source,
    Malformed(Malformed),
    /// The body could not be coded anew: there is no memory left.
    Coding,
    /// There is more of it than may be.
    TooLarge,
    /// The receiver failed.
    Sink,
}

/// How the next hop is written to.
#[derive(Debug)]
enum Out {
    Bytes { outgoing: Outgoing, delimiting: Delimiting },
    Frames(FramesOut),
}

#[derive(Debug)]
pub struct Relay {
    decoder: Decoder,
    out: Out,
    /// Of a body that is coded anew on its way.
    encoder: Option<Box<Encoder>>,
    /// Of a body that is kept, to be sent once more elsewhere.
    tee: Option<Tee>,
    full_reads: u8,
    /// Of a long body between plain sockets; boxed, since few bodies are long.
    splicing: Option<Box<Splicing>>,
    /// See [`Relay::is_gathering`].
    pub may_gather: bool,
    /// What follows the body ends here.
    drops_trailers: bool,
    /// Payload bytes that may be.
    most: u64,
    /// Payload bytes so far.
    pub payload: u64,
}

impl Relay {
    fn new(decoder: Decoder, out: Out) -> Self {
        Self {
            decoder,
            out,
            encoder: None,
            tee: None,
            full_reads: 0,
            splicing: None,
            may_gather: false,
            drops_trailers: false,
            most: u64::MAX,
            payload: 0,
        }
    }

    /// To a connection that is sent `head` first.
    pub fn to_bytes(decoder: Decoder, delimiting: Delimiting, head: Vec<u8>) -> Self {
        let out = Out::Bytes { outgoing: Outgoing::starting_with(head), delimiting };
        Self::new(decoder, out)
    }

    /// To an HTTP/2 stream whose head has been sent; with the stream's end, where there is no body.
    pub fn to_frames(decoder: Decoder) -> Self {
        let out = Out::Frames(FramesOut::new(matches!(decoder, Decoder::Done)));
        Self::new(decoder, out)
    }

    /// Nothing of a trailer section is passed on: endpoints that merge it into the head would take what a
    /// client says there for what a filter said.
    pub fn without_trailers(self) -> Self {
        Self { drops_trailers: true, ..self }
    }

    /// Not a byte beyond `most` is passed on.
    pub fn limited_to(self, most: u64) -> Self {
        Self { most, ..self }
    }

    fn count(&mut self, payload: u64) -> Result<(), RelayError> {
        self.payload += payload;
        if self.payload > self.most { Err(RelayError::TooLarge) } else { Ok(()) }
    }

    /// A request's body on its way to an endpoint.
    pub fn upward(decoder: Decoder, framing: Framing, to: Upward) -> Self {
        match to {
            Upward::Http2 => Self::to_frames(decoder),
            Upward::Http1 { head } => {
                let is_chunked = framing == Framing::Chunked;
                let delimiting = if is_chunked { Delimiting::Chunked } else { Delimiting::Plain };
                Self::to_bytes(decoder, delimiting, head)
            }
        }
    }

    /// Codes the body on its way; nothing of it may have passed yet.
    pub fn coded_by(mut self, encoder: Option<Box<Encoder>>) -> Self {
        self.encoder = encoder;
        self
    }

    /// Keeps the body as it passes.
    pub fn teed(mut self, tee: Option<Tee>) -> Self {
        self.tee = tee;
        self
    }

    /// What was kept of the body so far; `None` if it is too long, or nothing was to be kept.
    pub fn take_teed(&mut self) -> Option<Bytes> {
        self.tee.take().map(Tee::into_bytes)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.tee.as_mut().is_some_and(|tee| !tee.keep(bytes)) {
            self.tee = None;
        }
    }

    /// What codes the body, with its counts.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_deref()
    }

    /// Bytes of content that the receiver is sent, without framing.
    pub fn content(&self) -> u64 {
        self.encoder.as_ref().map_or(self.payload, |encoder| encoder.given)
    }

    /// Whether the whole body has been received and sent.
    pub fn is_done(&self) -> bool {
        matches!(self.decoder, Decoder::Done) && !self.is_sending()
    }

    /// Whether it waits for the receiver rather than for the sender.
    pub fn is_sending(&self) -> bool {
        match &self.out {
            Out::Bytes { outgoing, .. } => {
                !outgoing.is_empty() || self.spliced().is_some_and(Splicing::is_sending)
            }
            Out::Frames(frames) => !frames.is_empty(),
        }
    }

    /// Bytes that the receiver took, heads and framing of HTTP/1.1 included.
    pub fn sent(&self) -> u64 {
        match &self.out {
            Out::Bytes { outgoing, .. } => outgoing.sent + self.spliced().map_or(0, |spliced| spliced.sent),
            Out::Frames(frames) => frames.sent,
        }
    }

    /// Whether less than a long piece may lie with the source that nobody is woken for. Only where
    /// `may_gather` was set: by a caller who asks [`Self::stop_gathering`] after a moment of silence.
    pub fn is_gathering(&self) -> bool {
        self.spliced().is_some_and(Splicing::is_gathering)
    }

    /// Has the source heard at every byte again; whether it was not.
    pub fn stop_gathering(&mut self, source: &Source<'_>) -> bool {
        let was_gathering = self.is_gathering();
        if let (Some(splicing), Source::Stream { stream: Stream::Plain(source), .. }) =
            (&mut self.splicing, source)
        {
            splicing.stop_gathering(source);
        }
        was_gathering
    }

    fn spliced(&self) -> Option<&Splicing> {
        self.splicing.as_deref()
    }

    /// What was given to [`Self::to_bytes`], where no body was merged into it.
    pub fn into_head(self) -> Vec<u8> {
        match self.out {
            Out::Bytes { outgoing, .. } => outgoing.into_head(),
            Out::Frames(_) => Vec::new(),
        }
    }

    /// Goes on until the body is through. What follows the body is left with the source.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut source: Source<'_>,
        mut sink: Sink<'_>,
        worker: &Worker,
    ) -> Poll<Result<(), RelayError>> {
        let buffers = &worker.buffers;
        let started = self.payload;
        loop {
            if let Source::Stream { carried, .. } = &mut source
                && !matches!(self.decoder, Decoder::Done)
                && let Some(buffer) = carried.take()
            {
                // Before the head is sent, so that both travel together.
                self.take_in(buffer, carried, buffers)?;
            }
            if ready!(self.poll_send(context, &mut sink, buffers))? {
                return Poll::Ready(Ok(()));
            }
            if self.encoder.is_some() && self.payload - started >= CODED_AT_ONCE {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_splice(context, &source, &sink, &worker.pipes))? {
                continue;
            }
            match &mut source {
                Source::Stream { stream, carried } if carried.is_none() => {
                    match self.poll_source(context, stream, buffers) {
                        Poll::Ready(filled) => match filled.map_err(|_| RelayError::Source)? {
                            Some(buffer) => **carried = Some(buffer),
                            None => self.end_of_source()?,
                        },
                        Poll::Pending if self.flush_coded()? => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Source::Stream { .. } => {}
                Source::Ended => return Poll::Ready(Err(RelayError::Source)),
                Source::Memory(bytes) => self.take_frame(std::mem::take(*bytes), true)?,
                Source::Frames(body) => {
                    self.release_window(body);
                    match self.poll_frame(context, body) {
                        Poll::Ready(taken) => taken?,
                        Poll::Pending if self.flush_coded()? => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
    }

    /// Lets the kernel carry what is left of a long body between plain sockets. Ready with false where it
    /// cannot, or not now.
    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        source: &Source<'_>,
        sink: &Sink<'_>,
        pipes: &Pipes,
    ) -> Poll<Result<bool, RelayError>> {
        let Decoder::Length(left) = &mut self.decoder else { return Poll::Ready(Ok(false)) };
        let is_read = self.encoder.is_some() || self.tee.is_some();
        if is_read || *left < LONG_BYTES && self.splicing.is_none() {
            return Poll::Ready(Ok(false));
        }
        let (
            Source::Stream { stream: Stream::Plain(source), carried: None },
            Sink::Stream(Stream::Plain(sink)),
            Out::Bytes { delimiting: Delimiting::Plain, .. },
        ) = (source, sink, &self.out)
        else {
            return Poll::Ready(Ok(false));
        };
        let splicing = self.splicing.get_or_insert_default();
        if !splicing.is_possible() {
            return Poll::Ready(Ok(false));
        }
        let before = *left;
        let polled = splicing.poll(context, (source, sink), left, self.may_gather, pipes);
        let passed = before - *left;
        self.count(passed)?;
        match ready!(polled) {
            Ok(Stretch::Done) => self.decoder = Decoder::Done,
            Ok(Stretch::Copy) => return Poll::Ready(Ok(false)),
            Err(Broken::Source) => return Poll::Ready(Err(RelayError::Source)),
            Err(Broken::Sink) => return Poll::Ready(Err(RelayError::Sink)),
        }
        Poll::Ready(Ok(true))
    }

    fn poll_source(
        &self,
        context: &mut Context<'_>,
        stream: &mut Stream,
        buffers: &Buffers,
    ) -> Poll<io::Result<Option<Buffer>>> {
        if matches!(self.out, Out::Frames(_)) {
            return poll_fill_up_to(context, stream, buffers.take(PREFIX_ROOM), FRAMED_READ, buffers);
        }
        if self.encoder.is_some() {
            // So that no other connection waits long for a piece to be coded.
            return poll_fill_up_to(context, stream, buffers.take(PREFIX_ROOM), FRAMED_READ, buffers);
        }
        let is_long = matches!(self.decoder, Decoder::Length(left) if left >= LONG_BYTES);
        poll_fill(context, stream, buffers, is_long || self.full_reads >= FULL_READS)
    }

    /// Sends what there is; ready with whether that was the last of it.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut Sink<'_>,
        buffers: &Buffers,
    ) -> Poll<Result<bool, RelayError>> {
        let is_last = matches!(self.decoder, Decoder::Done);
        match (&mut self.out, sink) {
            (Out::Bytes { outgoing, .. }, Sink::Stream(stream)) => {
                match outgoing.poll_send(context, stream, buffers) {
                    Poll::Ready(sent) => sent.map_err(|_| RelayError::Sink)?,
                    Poll::Pending => {
                        self.full_reads = 0;
                        return Poll::Pending;
                    }
                }
                // TLS holds records back until the socket takes them.
                let flushed = Pin::new(&mut **stream).poll_flush(context).map_err(|_| RelayError::Sink)?;
                if is_last { flushed.map(|()| Ok(true)) } else { Poll::Ready(Ok(false)) }
            }
            (Out::Bytes { outgoing, .. }, Sink::Nowhere) => {
                outgoing.discard(buffers);
                Poll::Ready(Ok(is_last))
            }
            (Out::Frames(frames), Sink::Frames { stream, account }) => {
                ready!(frames.poll_send(context, stream, *account)).map_err(|_| RelayError::Sink)?;
                Poll::Ready(Ok(is_last))
            }
            // Relays are made by the sink that they are polled with.
            _ => Poll::Ready(Err(RelayError::Sink)),
        }
    }

    /// The source may send as much again as the sink has taken.
    fn release_window(&mut self, body: &mut RecvStream) {
        if let Decoder::Frames { unreleased } = &mut self.decoder
            && *unreleased > 0
        {
            // An error means that the stream is over, which the next read says better.
            let _ = body.flow_control().release_capacity(std::mem::take(unreleased));
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        body: &mut RecvStream,
    ) -> Poll<Result<(), RelayError>> {
        match ready!(body.poll_data(context)) {
            Some(Ok(data)) => self.take_frame(data, body.is_end_stream())?,
            Some(Err(_)) => return Poll::Ready(Err(RelayError::Source)),
            None => {
                let trailers = ready!(body.poll_trailers(context)).map_err(|_| RelayError::Source)?;
                self.decoder = Decoder::Done;
                let rest = self.code(&[], true)?;
                self.queue(rest);
                self.write_end(trailers);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take_frame(&mut self, data: Bytes, is_last: bool) -> Result<(), RelayError> {
        self.count(data.len() as u64)?;
        if self.tee.is_some() {
            self.keep(&data);
        }
        if let Decoder::Frames { unreleased } = &mut self.decoder {
            *unreleased += data.len();
        }
        let data = if self.encoder.is_some() { self.code(&data, is_last)? } else { data };
        self.queue(data);
        if is_last {
            self.decoder = Decoder::Done;
            self.write_end(None);
        }
        Ok(())
    }

    /// Queues a stretch of content as the next hop has it delimited.
    fn queue(&mut self, data: Bytes) {
        match &mut self.out {
            _ if data.is_empty() => {}
            Out::Frames(frames) => frames.push(data),
            Out::Bytes { outgoing, delimiting: Delimiting::Chunked } => {
                let mut size_line = [0; PREFIX_ROOM];
                let size_line = chunk_size_line(data.len(), &mut size_line);
                outgoing.push_chunk(size_line, data);
            }
            Out::Bytes { outgoing, .. } => outgoing.push_bytes(data),
        }
    }

    /// What comes out of the encoder for `plain`; with the coding's end where the body `is_over`. Nothing
    /// without an encoder.
    fn code(&mut self, plain: &[u8], is_over: bool) -> Result<Bytes, RelayError> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        let coded = encoder.write(plain).map_err(|_| RelayError::Coding)?;
        if !is_over {
            return Ok(coded);
        }
        let rest = encoder.finish().map_err(|_| RelayError::Coding)?;
        Ok(if coded.is_empty() { rest } else { [coded, rest].concat().into() })
    }

    /// Queues what the encoder has kept back; whether there was anything. Who sends nothing for the moment
    /// may be waiting for an answer to what it has sent.
    fn flush_coded(&mut self) -> Result<bool, RelayError> {
        let Some(encoder) = self.encoder.as_mut().filter(|encoder| encoder.holds()) else { return Ok(false) };
        let coded = encoder.flush().map_err(|_| RelayError::Coding)?;
        self.queue(coded);
        Ok(true)
    }

    fn take_in(
        &mut self,
        mut buffer: Buffer,
        carried: &mut Option<Buffer>,
        buffers: &Buffers,
    ) -> Result<(), RelayError> {
        let full = buffer.room().is_empty();
        self.full_reads = if full { self.full_reads.saturating_add(1) } else { 0 };
        let taken = self.decode(buffer.filled_mut()).map_err(RelayError::Malformed);
        let taken = taken.and_then(|taken| self.count(taken.0 as u64).map(|()| taken));
        let (payload, consumed) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                buffers.put(buffer);
                return Err(error);
            }
        };
        if self.tee.is_some() {
            self.keep(&buffer.filled()[..payload]);
        }
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
        self.push(buffer, buffers)
    }

    /// Queues a stretch of payload, and what ends the body if it has ended.
    fn push(&mut self, mut buffer: Buffer, buffers: &Buffers) -> Result<(), RelayError> {
        let is_over = match &self.decoder {
            Decoder::Done => true,
            Decoder::Chunked(decoder) => decoder.is_done(),
            _ => false,
        };
        match &mut self.out {
            _ if self.encoder.is_some() => {
                let coded = self.code(buffer.filled(), is_over);
                buffers.put(buffer);
                self.queue(coded?);
            }
            Out::Frames(frames) => {
                frames.push(Bytes::copy_from_slice(buffer.filled()));
                buffers.put(buffer);
            }
            Out::Bytes { outgoing, delimiting } => {
                if *delimiting == Delimiting::Chunked && !buffer.is_empty() {
                    let mut size_line = [0; PREFIX_ROOM];
                    let size = buffer.filled().len();
                    buffer.surround(chunk_size_line(size, &mut size_line), b"\r\n");
                }
                outgoing.push_body(buffer, buffers);
            }
        }
        if is_over {
            let decoder = std::mem::replace(&mut self.decoder, Decoder::Done);
            self.end(&decoder);
        }
        Ok(())
    }

    /// Payload and bytes consumed of `input`, whose front the payload then is.
    fn decode(&mut self, input: &mut [u8]) -> Result<(usize, usize), Malformed> {
        match &mut self.decoder {
            Decoder::Done | Decoder::Frames { .. } => Ok((0, 0)),
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

    /// The body has ended as `decoder` found it.
    fn end(&mut self, decoder: &Decoder) {
        match (&mut self.out, decoder) {
            _ if self.drops_trailers => self.write_end(None),
            (Out::Bytes { outgoing, delimiting: Delimiting::Chunked }, Decoder::Chunked(decoder)) => {
                decoder.write_end(outgoing.tail());
            }
            (Out::Frames(frames), Decoder::Chunked(decoder)) => {
                // Trailers that HTTP/2 cannot carry were refused by the decoder.
                frames.end(http2::read_trailers(decoder.trailers()).ok());
            }
            _ => self.write_end(None),
        }
    }

    fn write_end(&mut self, trailers: Option<HeaderMap>) {
        let trailers = trailers.filter(|_| !self.drops_trailers);
        match &mut self.out {
            Out::Bytes { outgoing, delimiting: Delimiting::Chunked } => match trailers {
                None => outgoing.tail().extend_from_slice(chunked::LAST_CHUNK),
                Some(trailers) => {
                    outgoing.tail().extend_from_slice(b"0\r\n");
                    http2::write_trailers(&trailers, outgoing.tail());
                    outgoing.tail().extend_from_slice(b"\r\n");
                }
            },
            Out::Bytes { .. } => {}
            Out::Frames(frames) => frames.end(trailers),
        }
    }

    fn end_of_source(&mut self) -> Result<(), RelayError> {
        if !matches!(self.decoder, Decoder::UntilClose) {
            return Err(RelayError::Source);
        }
        self.decoder = Decoder::Done;
        let rest = self.code(&[], true)?;
        self.queue(rest);
        self.write_end(None);
        Ok(())
    }

    /// Returns what is still held.
    pub fn release(&mut self, worker: &Worker) {
        if let Out::Bytes { outgoing, .. } = &mut self.out {
            outgoing.release(&worker.buffers);
        }
        if let Some(splicing) = &mut self.splicing {
            splicing.release(&worker.pipes);
        }
    }
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
