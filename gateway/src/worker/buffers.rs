//! Buffers that are lent for as long as bytes lie in them.
//!
//! A worker lends the one returned last, which is still in the processor's cache. Who waits for a
//! socket holds none, so their number follows the connections that are stuck with unsent bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// 64 KiB, the size in which files and frames are commonly sent, and a head before them; past this a read
/// gains little for small messages.
const USUAL_BYTES: usize = 72 << 10;
/// For the beginning of a head that has not come to its end: most do in their first packet, and who
/// sends slowly should not hold more than was sent.
const SMALL_BYTES: usize = 4 << 10;
/// For bodies: few system calls per MiB and still within a second-level cache.
const LARGE_BYTES: usize = 256 << 10;
/// Free buffers beyond these go back to the allocator: 18 MiB and 4 MiB per worker at the most.
const KEPT_USUAL: usize = 256;
const KEPT_LARGE: usize = 16;
/// 16 MiB per worker in large buffers, whoever stops reading; further bodies go on in usual ones.
const LENT_LARGE: usize = 64;
/// Room for the CR LF after a chunk. Reads leave it free.
pub const TAIL_ROOM: usize = 2;

/// Bytes received and not yet passed on: `start..end` of fixed memory.
#[derive(Debug)]
pub struct Buffer {
    data: Box<[u8]>,
    pub start: usize,
    pub end: usize,
    /// While it is not among the free ones.
    lent: Option<Lent>,
}

/// Bytes that count as lent until this is dropped, whatever becomes of their buffer.
#[derive(Debug)]
struct Lent {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

impl Buffer {
    fn with_capacity(bytes: usize) -> Self {
        Self { data: vec![0; bytes].into_boxed_slice(), start: 0, end: 0, lent: None }
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
    lent_large: Cell<usize>,
    lent_bytes: Rc<Cell<usize>>,
}

impl Buffers {
    /// An empty buffer whose room begins at `start`.
    pub fn take(&self, start: usize) -> Buffer {
        self.lend(&self.usual, USUAL_BYTES, start)
    }

    /// One for long bodies, while there are any.
    pub fn take_large(&self, start: usize) -> Buffer {
        if self.lent_large.get() >= LENT_LARGE {
            return self.take(start);
        }
        self.take_full_size(start)
    }

    /// One that `bytes` fit into, whatever is lent: they have been received already.
    pub fn take_fitting(&self, start: usize, bytes: usize) -> Buffer {
        if start + bytes + TAIL_ROOM <= USUAL_BYTES { self.take(start) } else { self.take_full_size(start) }
    }

    fn take_full_size(&self, start: usize) -> Buffer {
        self.lent_large.set(self.lent_large.get() + 1);
        self.lend(&self.large, LARGE_BYTES, start)
    }

    fn lend(&self, free: &RefCell<Vec<Buffer>>, bytes: usize, start: usize) -> Buffer {
        let buffer = free.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(bytes));
        self.count(buffer, start)
    }

    fn count(&self, mut buffer: Buffer, start: usize) -> Buffer {
        let bytes = buffer.data.len();
        self.lent_bytes.set(self.lent_bytes.get() + bytes);
        (buffer.start, buffer.end) = (start, start);
        buffer.lent = Some(Lent { total: self.lent_bytes.clone(), bytes });
        buffer
    }

    /// What is out at the moment, the unfilled parts included.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes.get()
    }

    /// What `buffer` holds, in one that is no larger than it needs to be, with `start` bytes of room before.
    pub fn shrink(&self, buffer: Buffer, start: usize) -> Buffer {
        let held = buffer.filled().len();
        if buffer.data.len() == SMALL_BYTES || held > SMALL_BYTES / 2 {
            return buffer;
        }
        let mut small = self.count(Buffer::with_capacity(SMALL_BYTES), start);
        small.append(buffer.filled());
        self.put(buffer);
        small
    }

    /// What `buffer` holds, with as much room behind it as a usual buffer has; the room in front of it
    /// is given up.
    pub fn make_room(&self, buffer: Buffer, start: usize) -> Buffer {
        let mut fresh = self.take(start);
        fresh.append(buffer.filled());
        self.put(buffer);
        fresh
    }

    pub fn put(&self, mut buffer: Buffer) {
        buffer.lent = None;
        let (free, kept) = match buffer.data.len() {
            USUAL_BYTES => (&self.usual, KEPT_USUAL),
            LARGE_BYTES => {
                self.lent_large.set(self.lent_large.get().saturating_sub(1));
                (&self.large, KEPT_LARGE)
            }
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_counted_whatever_becomes_of_it() {
        let buffers = Buffers::default();
        let (usual, large) = (buffers.take(0), buffers.take_large(0));
        assert_eq!(buffers.lent_bytes(), USUAL_BYTES + LARGE_BYTES);
        let small = buffers.shrink(usual, 0);
        assert_eq!(buffers.lent_bytes(), SMALL_BYTES + LARGE_BYTES);
        let grown = buffers.make_room(small, 0);
        buffers.put(large);
        assert_eq!(buffers.lent_bytes(), USUAL_BYTES);
        drop(grown);
        assert_eq!(buffers.lent_bytes(), 0);
    }
}
