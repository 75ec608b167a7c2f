//! Buffers that are lent for as long as bytes lie in them.
//!
//! A worker lends the one returned last, which is still in the processor's cache. Who waits for a
//! socket holds none, so their number follows the connections that are stuck with unsent bytes.

use std::cell::RefCell;

/// A whole TLS record or 45 segments of an ethernet: past this a read gains little for small messages.
const USUAL_BYTES: usize = 64 << 10;
/// For bodies: few system calls per MiB and still within a second-level cache.
const LARGE_BYTES: usize = 256 << 10;
/// Free buffers beyond these go back to the allocator: 16 MiB and 4 MiB per worker at the most.
const KEPT_USUAL: usize = 256;
const KEPT_LARGE: usize = 16;
/// Room for the CR LF after a chunk. Reads leave it free.
pub const TAIL_ROOM: usize = 2;

/// Bytes received and not yet passed on: `start..end` of fixed memory.
#[derive(Debug)]
pub struct Buffer {
    data: Box<[u8]>,
    pub start: usize,
    pub end: usize,
}

impl Buffer {
    fn with_capacity(bytes: usize) -> Self {
        Self { data: vec![0; bytes].into_boxed_slice(), start: 0, end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    /// Where the next read goes.
    pub fn room(&mut self) -> &mut [u8] {
        let limit = self.data.len() - TAIL_ROOM;
        &mut self.data[self.end.min(limit)..limit]
    }

    /// Adds `bytes`, for which there must be room.
    pub fn append(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Puts `before` in front of the filled bytes and `after` behind them; the room must be there.
    pub fn surround(&mut self, before: &[u8], after: &[u8]) {
        self.data[self.start - before.len()..self.start].copy_from_slice(before);
        self.start -= before.len();
        self.data[self.end..self.end + after.len()].copy_from_slice(after);
        self.end += after.len();
    }
}

/// The free buffers of one worker.
#[derive(Debug, Default)]
pub struct Buffers {
    usual: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
}

impl Buffers {
    /// An empty buffer whose room begins at `start`.
    pub fn take(&self, start: usize) -> Buffer {
        Self::lend(&self.usual, USUAL_BYTES, start)
    }

    /// One for long bodies.
    pub fn take_large(&self, start: usize) -> Buffer {
        Self::lend(&self.large, LARGE_BYTES, start)
    }

    fn lend(free: &RefCell<Vec<Buffer>>, bytes: usize, start: usize) -> Buffer {
        let mut buffer = free.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(bytes));
        (buffer.start, buffer.end) = (start, start);
        buffer
    }

    pub fn put(&self, buffer: Buffer) {
        let (free, kept) = match buffer.data.len() {
            USUAL_BYTES => (&self.usual, KEPT_USUAL),
            _ => (&self.large, KEPT_LARGE),
        };
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(buffer);
        }
    }
}
