//! Pipes for splice(2), lent for as long as bytes lie in them.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// What a busy socket's receive buffer gathers between two wakes, in 64 pages. More would leave the
/// processor's second-level cache before it is sent.
const PIPE_BYTES: usize = 256 << 10;
/// What the kernel gives when a user has more than `fs.pipe-user-pages-soft` in pipes is a page or two:
/// too little to be worth the calls.
const LEAST_BYTES: usize = 64 << 10;
/// One per direction whose receiver is behind, and one for all others. Beyond these bytes are copied:
/// 8 MiB of kernel memory and 64 file descriptors per worker at the most, whoever stops reading.
const MAX_PIPES: usize = 32;

/// An empty pipe, or one on its way.
#[derive(Debug)]
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
    /// What fits into it.
    pub capacity: usize,
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused above fs.pipe-max-size or the user's share; then it stays as it is.
        let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&write))?;
        Ok(Self { read, write, capacity })
    }
}

/// The pipes of one worker.
#[derive(Debug, Default)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
    /// The system gave none; it is asked again after the next sweep.
    is_refused: Cell<bool>,
}

impl Pipes {
    /// An empty one; `None` when bytes have to be copied.
    pub fn take(&self) -> Option<Pipe> {
        if self.lent.get() >= MAX_PIPES || self.is_refused.get() {
            return None;
        }
        let pipe = self.free.borrow_mut().pop().or_else(|| self.make())?;
        self.lent.set(self.lent.get() + 1);
        Some(pipe)
    }

    fn make(&self) -> Option<Pipe> {
        let made = Pipe::new().ok().filter(|pipe| pipe.capacity >= LEAST_BYTES);
        self.is_refused.set(made.is_none());
        made
    }

    /// Takes an empty one back.
    pub fn put(&self, pipe: Pipe) {
        self.forget();
        self.free.borrow_mut().push(pipe);
    }

    /// For one that was closed with bytes in it.
    pub fn forget(&self) {
        self.lent.set(self.lent.get().saturating_sub(1));
    }

    /// Gives back to the system what nobody has needed for a while: half of the free ones at a time.
    pub fn sweep(&self) {
        self.is_refused.set(false);
        let mut free = self.free.borrow_mut();
        if self.lent.get() == 0 {
            let kept = free.len() / 2;
            free.truncate(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_lent_and_returned_ones_are_lent_again() {
        let pipes = Pipes::default();
        let mut lent: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert!(!lent.is_empty() && lent.len() <= MAX_PIPES, "{}", lent.len());
        pipes.put(lent.pop().unwrap());
        assert!(pipes.take().is_some());
        drop(lent.pop());
        pipes.forget();
        assert!(pipes.take().is_some());
    }
}
