//! One direction of a tunnel: what is read here is written there, and the end passed on.
//!
//! Two ways to carry bytes, chosen by how they come. Small messages are copied through a buffer of the
//! worker's: a read and a write each, as cheap as splicing them. Long stretches between two plain sockets
//! are spliced through a pipe and never enter the process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::{End, Failed};
use crate::proxy::fill::poll_fill;
use crate::proxy::splice::{self, TURN_BYTES};
use crate::worker::{Buffer, Pipe, Worker};

/// A piece this large adds to the signs of a long stretch: half of a loopback segment, a dozen of an
/// ethernet's. Copying it twice costs more than the extra call that splicing needs to see that there is
/// no more.
const LARGE_PIECE: usize = 16 << 10;
/// A piece this small is one message of a conversation.
const SMALL_PIECE: usize = 4 << 10;
/// Large pieces in a row after which there is probably more to come.
const BULK: u8 = 4;
/// The last, short piece of one answer must not undo what the whole of it has shown.
const MOST_SIGNS: u8 = 8;
/// Small pieces count twice: a conversation is recognised within three messages.
const SMALL_WEIGHT: u8 = 2;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; what is held is still to be sent.
    Ending,
    Ended,
}

/// Bytes that were read and are not yet sent.
#[derive(Debug)]
enum Held {
    Nothing,
    Buffer(Buffer),
    /// So many bytes of it.
    Pipe(Pipe, usize),
}

#[derive(Debug)]
pub struct Direction {
    held: Held,
    state: State,
    /// Of a long stretch, up to [`MOST_SIGNS`].
    signs: u8,
    /// The sink may hold bytes back that it took (TLS).
    is_unflushed: bool,
    /// The kernel does not splice between these two.
    is_unspliceable: bool,
    /// Bytes that the sink took.
    pub sent: u64,
}

impl Direction {
    /// `carried` is sent first.
    pub fn new(carried: Option<Buffer>) -> Self {
        Self {
            held: carried.map_or(Held::Nothing, Held::Buffer),
            state: State::Open,
            signs: 0,
            is_unflushed: false,
            is_unspliceable: false,
            sent: 0,
        }
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Goes on until one of the sockets has to be waited for. The end of a direction is no error.
    pub fn poll<S: End, K: End>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut S,
        sink: &mut K,
        worker: &Worker,
    ) -> Result<(), Failed> {
        let began = self.sent;
        while self.state != State::Ended {
            match self.poll_send(context, sink, worker) {
                Poll::Ready(sent) => sent.map_err(|_| Failed::Sink)?,
                Poll::Pending => return Ok(()),
            }
            if self.state == State::Ending {
                // A FIN is sent without waiting, a TLS alert as soon as the socket takes it.
                match Pin::new(&mut *sink).poll_shutdown(context) {
                    Poll::Ready(shut) => shut.map_err(|_| Failed::Sink)?,
                    Poll::Pending => return Ok(()),
                }
                self.state = State::Ended;
                return Ok(());
            }
            if self.sent - began >= TURN_BYTES as u64 {
                context.waker().wake_by_ref();
                return Ok(());
            }
            match self.poll_receive(context, source, sink, worker) {
                Poll::Ready(received) => received.map_err(|_| Failed::Source)?,
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Ready once nothing is held, here or in the sink.
    fn poll_send<K: End>(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut K,
        worker: &Worker,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = match (&mut self.held, sink.plain()) {
                (Held::Nothing, _) => break,
                (Held::Buffer(buffer), _) if buffer.is_empty() => 0,
                (Held::Buffer(buffer), _) => {
                    let sent = ready!(Pin::new(&mut *sink).poll_write(context, buffer.filled()))?;
                    buffer.start += sent;
                    self.is_unflushed = true;
                    positive(sent)?
                }
                (Held::Pipe(pipe, left), Some(socket)) => {
                    // Nobody knows what follows: nothing may wait for it.
                    let sent = ready!(splice::poll_out(context, pipe, *left, socket, false))?;
                    *left -= sent;
                    sent
                }
                (Held::Pipe(..), None) => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            };
            self.sent += sent as u64;
            self.put_empty(worker);
        }
        if self.is_unflushed {
            ready!(Pin::new(sink).poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back what holds nothing any more.
    fn put_empty(&mut self, worker: &Worker) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Buffer(buffer) if buffer.is_empty() => worker.buffers.put(buffer),
            Held::Pipe(pipe, 0) => worker.pipes.put(pipe),
            held => self.held = held,
        }
    }

    /// Ready when something was received, or the end. Nothing is held before.
    fn poll_receive<S: End, K: End>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut S,
        sink: &K,
        worker: &Worker,
    ) -> Poll<io::Result<()>> {
        let is_bulk = self.signs >= BULK;
        if is_bulk
            && !self.is_unspliceable
            && let (Some(socket), Some(_)) = (source.plain(), sink.plain())
            && let Some(pipe) = worker.pipes.take()
        {
            return self.poll_splice(context, socket, pipe, worker);
        }
        let read = ready!(poll_fill(context, source, &worker.buffers, is_bulk))?;
        match read {
            None => self.state = State::Ending,
            Some(buffer) => {
                self.judge(buffer.filled().len());
                self.held = Held::Buffer(buffer);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        source: &TcpStream,
        pipe: Pipe,
        worker: &Worker,
    ) -> Poll<io::Result<()>> {
        match splice::poll_in(context, source, &pipe, pipe.capacity) {
            Poll::Ready(Ok(0)) => self.state = State::Ending,
            Poll::Ready(Ok(count)) => {
                self.judge(count);
                self.held = Held::Pipe(pipe, count);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) if splice::is_refusal(&error) => self.is_unspliceable = true,
            Poll::Ready(Err(error)) => {
                worker.pipes.put(pipe);
                return Poll::Ready(Err(error));
            }
            Poll::Pending => {
                worker.pipes.put(pipe);
                return Poll::Pending;
            }
        }
        worker.pipes.put(pipe);
        Poll::Ready(Ok(()))
    }

    /// What a piece of this size says of the next ones.
    fn judge(&mut self, piece: usize) {
        if piece >= LARGE_PIECE {
            self.signs = (self.signs + 1).min(MOST_SIGNS);
        } else if piece < SMALL_PIECE {
            self.signs = self.signs.saturating_sub(SMALL_WEIGHT);
        }
    }

    /// Returns what is still held.
    pub fn release(&mut self, worker: &Worker) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Buffer(buffer) => worker.buffers.put(buffer),
            Held::Pipe(..) => worker.pipes.forget(),
        }
    }
}

/// A socket that takes nothing and says that it took it would be asked for ever.
fn positive(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}
