//! Memory for the moment between a socket and a caller, one for each thread.
//!
//! Sound because nothing in here outlives a poll: what is left goes into the connection.

use std::cell::RefCell;

use super::session::{MAX_PLAIN_BYTES, MAX_RECORD_BYTES};

/// Plain bytes that are encrypted at once and leave in one system call: what a caller's usual buffer holds.
pub const MAX_SEND_BYTES: usize = 4 * MAX_PLAIN_BYTES;
/// For the records of one send, and for a few short ones of the handshake before them.
const OUTGOING_BYTES: usize = 5 * MAX_RECORD_BYTES;
/// The largest handshake message that rustls takes (64 KiB, a chain of certificates) and one record.
/// A read is seldom larger than a caller's usual buffer of 64 KiB.
pub const INCOMING_BYTES: usize = (64 << 10) + MAX_RECORD_BYTES;

#[derive(Debug)]
pub struct Outgoing {
    /// One record's plain bytes, where they come in several pieces.
    pub plain: Vec<u8>,
    pub records: Box<[u8]>,
}

thread_local! {
    static INCOMING: RefCell<Box<[u8]>> = RefCell::new(zeroed(INCOMING_BYTES));
    static OUTGOING: RefCell<Outgoing> = RefCell::new(Outgoing {
        plain: Vec::with_capacity(MAX_PLAIN_BYTES),
        records: zeroed(OUTGOING_BYTES),
    });
}

fn zeroed(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

/// Lends this thread's memory for what is received.
pub fn with_incoming<R>(then: impl FnOnce(&mut [u8]) -> R) -> R {
    INCOMING.with_borrow_mut(|incoming| then(incoming))
}

/// Lends this thread's memory for what is sent.
pub fn with_outgoing<R>(then: impl FnOnce(&mut Outgoing) -> R) -> R {
    OUTGOING.with_borrow_mut(then)
}
