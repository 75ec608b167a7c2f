//! Frames that make us work and carry nothing.
//!
//! HTTP/2 has many ways to keep a peer busy without sending it a request: pings, settings, priorities,
//! empty frames, windows opened byte by byte, streams opened and reset (CVE-2019-9511 to 9518,
//! CVE-2023-44487, CVE-2024-27316, CVE-2025-8671). They have one thing in common, and this counts it:
//! a connection has an account, idle work is paid from it, useful work and time fill it up again. Whoever
//! overdraws it is not a client.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an account holds at the most: a browser that leaves a page resets a hundred streams at once.
pub const ACCOUNT: i64 = 1_000;
/// What is left of that while the client's address is out for a flood: as much as a page makes. A connection that has
/// spent more by then is part of the flood.
const RESTRICTED: i64 = 250;
/// What a tick of 100 ms pays in: gRPC clients ping a few times a second.
pub const PER_TICK: i64 = 10;
/// A reset stream has cost us a request.
const RESET_COST: i64 = 5;
/// An answered request pays for its window updates and pings.
const REQUEST_CREDIT: i64 = 4;
/// A message of a stream is answered with updates of two windows and, by gRPC's clients, with a ping.
const PIECE_CREDIT: i64 = 3;
/// So does every stretch of this many bytes that we send: clients open windows as they read.
const BYTES_PER_CREDIT: u64 = 512;
/// The length of a frame's header, and of the preface that comes before the first one (RFC 9113
/// sections 3.4 and 4.1).
const HEADER_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;

/// What a connection has left, in frames.
#[derive(Debug)]
pub struct Account {
    left: Cell<i64>,
    /// Below which nothing may be left.
    least: Cell<i64>,
    /// The tick up to which more than 0 has to be left.
    restricted_until: Cell<u32>,
    /// All that the client has taken, in bytes.
    written: Cell<u64>,
    seen: Cell<u32>,
}

impl Account {
    pub fn opened(now: u32) -> Self {
        Self {
            left: Cell::new(ACCOUNT),
            least: Cell::new(0),
            restricted_until: Cell::new(0),
            written: Cell::new(0),
            seen: Cell::new(now),
        }
    }

    /// Up to this tick it is as if it held [`RESTRICTED`] at the most.
    pub fn restrict(&self, until: u32) {
        self.restricted_until.set(until);
        self.least.set(ACCOUNT - RESTRICTED);
    }

    /// Bytes that the client has taken.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Pays in what the ticks since the last call are worth; whether anything is left.
    pub fn is_covered(&self, now: u32) -> bool {
        let ticks = i64::from(now.saturating_sub(self.seen.replace(now)));
        self.credit(ticks * PER_TICK);
        if now >= self.restricted_until.get() {
            self.least.set(0);
        }
        !self.is_overdrawn()
    }

    fn is_overdrawn(&self) -> bool {
        self.left.get() < self.least.get()
    }

    pub fn answered(&self) {
        self.credit(REQUEST_CREDIT);
    }

    /// A piece of a response went out whole: its two window updates and a ping are paid for.
    pub fn delivered(&self) {
        self.credit(PIECE_CREDIT);
    }

    fn sent(&self, bytes: usize) {
        let before = self.written.get();
        let written = before + bytes as u64;
        self.written.set(written);
        self.credit((written / BYTES_PER_CREDIT - before / BYTES_PER_CREDIT) as i64);
    }

    fn credit(&self, amount: i64) {
        self.left.set((self.left.get() + amount).min(ACCOUNT));
    }

    fn pay(&self, amount: i64) {
        self.left.set(self.left.get() - amount);
    }
}

/// The first frame was another one (RFC 9113 section 3.4), which h2 does not mind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an HTTP/2 connection has to begin with SETTINGS")]
pub struct NoSettings;

/// Follows the frames in a stream of bytes, whatever pieces it comes in.
#[derive(Debug)]
pub struct FrameScan {
    /// Bytes to pass over: a preface, a payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    filled: usize,
    has_begun: bool,
}

impl FrameScan {
    /// Of a connection whose preface has yet to come.
    pub fn at_preface() -> Self {
        Self { skip: PREFACE_BYTES, header: [0; HEADER_BYTES], filled: 0, has_begun: false }
    }

    /// What the frames that begin in `bytes` cost.
    ///
    /// # Errors
    /// [`NoSettings`].
    pub fn cost(&mut self, mut bytes: &[u8]) -> Result<i64, NoSettings> {
        let mut cost = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                if !std::mem::replace(&mut self.has_begun, true) && kind != SETTINGS {
                    return Err(NoSettings);
                }
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                cost += cost_of(kind, flags, self.skip);
            }
        }
        Ok(cost)
    }
}

fn cost_of(kind: u8, flags: u8, length: usize) -> i64 {
    match kind {
        DATA if length == 0 && flags & END_STREAM == 0 => 1,
        // What they carry is bounded elsewhere: windows, streams, the size of heads.
        DATA | HEADERS => 0,
        RST_STREAM => RESET_COST,
        _ => 1,
    }
}

/// A connection whose frames are counted.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    /// Received before, with the preface.
    before: bytes::Bytes,
    scan: FrameScan,
    account: Rc<Account>,
}

impl<S> Metered<S> {
    pub fn new(inner: S, before: bytes::Bytes, account: Rc<Account>) -> Self {
        Self { inner, before, scan: FrameScan::at_preface(), account }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.account.is_overdrawn() {
            // h2 would read on for as long as there is something; whoever polls it looks at the account.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let from = buffer.filled().len();
        if this.before.is_empty() {
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        } else {
            let taken = this.before.split_to(this.before.len().min(buffer.remaining()));
            buffer.put_slice(&taken);
        }
        let cost = this.scan.cost(&buffer.filled()[from..]);
        this.account.pay(cost.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(context, bytes))?;
        this.account.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(context, slices))?;
        this.account.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0xff, length));
        frame
    }

    #[test]
    fn frames_cost_the_same_whatever_pieces_they_come_in() {
        let mut bytes = vec![b'P'; PREFACE_BYTES];
        for (kind, flags, length) in
            [(4, 0, 18), (HEADERS, 5, 40), (6, 0, 8), (RST_STREAM, 0, 4), (DATA, 0, 0), (DATA, 1, 0)]
        {
            bytes.extend(frame(kind, flags, length));
        }
        let wanted = 1 + 1 + RESET_COST + 1;
        for size in 1..bytes.len() {
            let mut scan = FrameScan::at_preface();
            let cost: i64 = bytes.chunks(size).map(|piece| scan.cost(piece).unwrap()).sum();
            assert_eq!(cost, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn a_connection_begins_with_settings() {
        let preface = [b'P'; PREFACE_BYTES];
        let mut scan = FrameScan::at_preface();
        assert_eq!(scan.cost(&preface), Ok(0));
        assert_eq!(scan.cost(&frame(HEADERS, 5, 3)), Err(NoSettings));
    }

    #[test]
    fn an_account_is_overdrawn_by_idle_work_and_filled_by_time_and_answers() {
        let account = Account::opened(0);
        account.pay(ACCOUNT);
        assert!(account.is_covered(0));
        account.pay(1);
        assert!(!account.is_covered(0));
        assert!(account.is_covered(1));
        account.pay(PER_TICK);
        account.answered();
        assert!(account.is_covered(1));
        assert!(account.is_covered(1_000_000) && account.left.get() == ACCOUNT);
    }

    #[test]
    fn while_an_address_is_out_its_connections_have_less_to_spend() {
        let (flooding, honest) = (Account::opened(0), Account::opened(0));
        flooding.pay(RESTRICTED + 1);
        honest.pay(RESTRICTED);
        for account in [&flooding, &honest] {
            assert!(account.is_covered(0));
            account.restrict(10);
        }
        assert!(!flooding.is_covered(0) && honest.is_covered(0));
        honest.pay(1);
        assert!(!honest.is_covered(0) && honest.is_covered(1));
        honest.pay(ACCOUNT - RESTRICTED);
        assert!(honest.is_covered(10), "afterwards it has what others have");
    }

    #[test]
    fn bytes_that_the_client_takes_pay_in() {
        let account = Account::opened(0);
        account.pay(ACCOUNT);
        for _ in 0..3 {
            account.sent(BYTES_PER_CREDIT as usize / 2);
        }
        assert_eq!((account.left.get(), account.written()), (1, 3 * BYTES_PER_CREDIT / 2));
    }
}
