//! Long stretches between two plain sockets: the kernel moves them through a pipe, and they never enter
//! the process.
//!
//! A stretch whose end is known may be told so: `SPLICE_F_MORE` lets the kernel fill its segments over
//! several calls, which is worth more than the copies saved (docs/decisions/0016).

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::worker::{Pipe, Pipes};

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A source that has brought half as much at once is fast, and is waited for until it has so much ready:
/// half a pipe, a few segments. Every wake less is a system call less on three sockets.
const GATHER_BYTES: u32 = 128 << 10;
/// What is left of a stretch that is worth the two calls that gathering costs.
const WORTH_GATHERING: u64 = 512 << 10;

/// Moved at one go before other connections of the worker have their turn.
pub const TURN_BYTES: usize = 1 << 20;

/// Which side a stretch failed on.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// The source failed, or closed before the stretch's end.
    Source,
    Sink,
}

/// What became of a stretch for now.
#[derive(Debug, PartialEq, Eq)]
pub enum Stretch {
    /// All of it has been sent.
    Done,
    /// No pipe is to be had, or the kernel does not splice between these two: what is left is copied.
    Copy,
}

/// Whether the source wakes us only for [`GATHER_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Gathering {
    #[default]
    Off,
    On,
    /// It paused with less; it is heard at every byte from then on.
    Never,
}

/// A stretch of known length on its way.
#[derive(Debug, Default)]
pub struct Splicing {
    gathering: Gathering,
    /// Lent as long as bytes lie in it: so many.
    held: Option<(Pipe, usize)>,
    /// Bytes that the sink took.
    pub sent: u64,
    is_unspliceable: bool,
}

impl Splicing {
    /// Whether it waits for the sink rather than for the source.
    pub fn is_sending(&self) -> bool {
        self.held.is_some()
    }

    /// Whether bytes may lie with the source that nobody is woken for. Whoever lets that be must call
    /// [`Self::stop_gathering`] when nothing has come for a moment.
    pub fn is_gathering(&self) -> bool {
        self.gathering == Gathering::On
    }

    /// The source is heard at every byte again, and at once if it has brought any.
    pub fn stop_gathering(&mut self, source: &TcpStream) {
        if self.is_gathering() {
            wake_at(source, 1);
            self.gathering = Gathering::Never;
        }
    }

    /// After a piece of `count` bytes; the source owes `left` more.
    fn gather(&mut self, source: &TcpStream, count: usize, left: u64) {
        let is_fast = count >= GATHER_BYTES as usize / 2;
        match self.gathering {
            Gathering::Off if is_fast && left >= WORTH_GATHERING && wake_at(source, GATHER_BYTES) => {
                self.gathering = Gathering::On;
            }
            Gathering::On if left < u64::from(GATHER_BYTES) => {
                wake_at(source, 1);
                self.gathering = Gathering::Off;
            }
            _ => {}
        }
    }

    /// Whether asking the kernel has not been in vain.
    pub fn is_possible(&self) -> bool {
        !self.is_unspliceable
    }

    /// Goes on until the stretch is through or one of the sockets has to be waited for. `left` is what the
    /// source has still to send of it. `may_gather`: see [`Self::is_gathering`].
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        (source, sink): (&TcpStream, &TcpStream),
        left: &mut u64,
        may_gather: bool,
        pipes: &Pipes,
    ) -> Poll<Result<Stretch, Broken>> {
        let began = self.sent;
        loop {
            ready!(self.poll_out(context, sink, *left > 0, pipes)).map_err(|_| Broken::Sink)?;
            if *left == 0 {
                return Poll::Ready(Ok(Stretch::Done));
            }
            if self.sent - began >= TURN_BYTES as u64 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(pipe) = pipes.take() else {
                self.stop_gathering(source);
                return Poll::Ready(Ok(Stretch::Copy));
            };
            let most = usize::try_from(*left).map_or(pipe.capacity, |left| left.min(pipe.capacity));
            match poll_in(context, source, &pipe, most) {
                Poll::Ready(Ok(count @ 1..)) => {
                    *left -= count as u64;
                    self.held = Some((pipe, count));
                    if may_gather {
                        self.gather(source, count, *left);
                    }
                }
                other => {
                    pipes.put(pipe);
                    match ready!(other) {
                        Err(error) if is_refusal(&error) => {
                            self.is_unspliceable = true;
                            return Poll::Ready(Ok(Stretch::Copy));
                        }
                        _ => return Poll::Ready(Err(Broken::Source)),
                    }
                }
            }
        }
    }

    /// Ready once nothing is held.
    fn poll_out(
        &mut self,
        context: &mut Context<'_>,
        sink: &TcpStream,
        is_followed: bool,
        pipes: &Pipes,
    ) -> Poll<io::Result<()>> {
        while let Some((pipe, held)) = &mut self.held {
            let sent = ready!(poll_out(context, pipe, *held, sink, is_followed))?;
            self.sent += sent as u64;
            *held -= sent;
            if *held == 0 {
                self.held.take().into_iter().for_each(|(pipe, _)| pipes.put(pipe));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives up what is still held.
    pub fn release(&mut self, pipes: &Pipes) {
        if self.held.take().is_some() {
            pipes.forget();
        }
    }
}

/// Lets `source` count as readable when `bytes` have come, its end aside (`SO_RCVLOWAT`, socket(7)). The
/// kernel makes room for twice as many, and looks again at what is there already.
#[expect(unsafe_code, reason = "no crate of ours names this option")]
fn wake_at(source: &TcpStream, bytes: u32) -> bool {
    let value = bytes as libc::c_int;
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `source` is borrowed, and the option is an int, which lives
    // until the call returns.
    let set = unsafe {
        let value = std::ptr::from_ref(&value).cast();
        libc::setsockopt(source.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, size)
    };
    set == 0
}

/// A kind of socket that the kernel does not splice; reading says what else there may be.
pub fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Moves up to `most` bytes from `source` into `pipe`, which is empty, so that "would block" can only mean
/// the socket. 0: the source has ended.
pub fn poll_in(
    context: &mut Context<'_>,
    source: &TcpStream,
    pipe: &Pipe,
    most: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(source.poll_read_ready(context))?;
        let spliced = source.try_io(Interest::READABLE, || {
            splice(source, None, &pipe.write, None, most, FLAGS).map_err(io::Error::from)
        });
        if let Some(done) = settled(spliced) {
            return Poll::Ready(done);
        }
    }
}

/// Moves up to `count` of the bytes in `pipe` to `sink`; never nothing. `is_followed`: more will come
/// without anybody being asked for it, so a segment that is not full may wait for it.
pub fn poll_out(
    context: &mut Context<'_>,
    pipe: &Pipe,
    count: usize,
    sink: &TcpStream,
    is_followed: bool,
) -> Poll<io::Result<usize>> {
    let flags = if is_followed { FLAGS | SpliceFlags::MORE } else { FLAGS };
    loop {
        ready!(sink.poll_write_ready(context))?;
        let spliced = sink.try_io(Interest::WRITABLE, || {
            splice(&pipe.read, None, sink, None, count, flags).map_err(io::Error::from)
        });
        match settled(spliced) {
            // A socket that takes nothing and says that it took it would be asked for ever.
            Some(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Some(done) => return Poll::Ready(done),
            None => {}
        }
    }
}

/// `None`: to be tried again, after the socket has become ready if it was not.
fn settled(result: io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (here, there) = tokio::join!(connecting, listener.accept());
        (here.unwrap(), there.unwrap().0)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// Longer than a turn, a pipe and what sockets hold.
    const LENGTH: usize = 9 << 20;

    #[tokio::test]
    async fn a_stretch_arrives_whole_and_what_follows_it_stays() {
        let (mut sender, source) = pair().await;
        let (sink, mut receiver) = pair().await;
        let sending = async {
            sender.write_all(&pattern(LENGTH)).await.unwrap();
            sender.write_all(b"next").await.unwrap();
        };
        let (pipes, mut splicing, mut left) = (Pipes::default(), Splicing::default(), LENGTH as u64);
        let passing = poll_fn(|context| splicing.poll(context, (&source, &sink), &mut left, true, &pipes));
        let mut received = vec![0; LENGTH];
        let (passed, (), read) = tokio::join!(passing, sending, receiver.read_exact(&mut received));
        assert_eq!((passed, left, splicing.sent), (Ok(Stretch::Done), 0, LENGTH as u64));
        read.unwrap();
        assert!(received == pattern(LENGTH), "bytes were changed");
        let mut next = [0; 4];
        source.readable().await.unwrap();
        assert_eq!(source.try_read(&mut next).unwrap(), 4);
        assert_eq!(&next, b"next");
    }

    #[tokio::test]
    async fn a_fast_source_that_pauses_is_heard_once_gathering_is_over() {
        let (mut sender, source) = pair().await;
        let (sink, mut receiver) = pair().await;
        let (pipes, mut splicing, mut left) = (Pipes::default(), Splicing::default(), LENGTH as u64);
        let mut received = vec![0; LENGTH];
        // Fast enough to be gathered, and a little more, which nobody is woken for.
        let first = 3 << 20;
        let pieces = async {
            sender.write_all(&pattern(LENGTH)[..first]).await.unwrap();
            receiver.read_exact(&mut received[..first - GATHER_BYTES as usize]).await.unwrap();
        };
        tokio::select! {
            () = pieces => {}
            _ = poll_fn(|context| splicing.poll(context, (&source, &sink), &mut left, true, &pipes)) => {}
        }
        assert!(splicing.is_gathering());
        splicing.stop_gathering(&source);
        let rest = async {
            receiver.read_exact(&mut received[first - GATHER_BYTES as usize..first]).await.unwrap();
            sender.write_all(&pattern(LENGTH)[first..]).await.unwrap();
            receiver.read_exact(&mut received[first..]).await.unwrap();
        };
        let passing = poll_fn(|context| splicing.poll(context, (&source, &sink), &mut left, true, &pipes));
        let (passed, ()) = tokio::join!(passing, rest);
        assert_eq!(passed, Ok(Stretch::Done));
        assert!(!splicing.is_gathering() && received == pattern(LENGTH));
    }

    #[tokio::test]
    async fn a_source_that_ends_early_and_a_sink_that_is_gone_are_told_apart() {
        let (mut sender, source) = pair().await;
        let (sink, receiver) = pair().await;
        sender.write_all(b"too short").await.unwrap();
        drop(sender);
        let (pipes, mut splicing, mut left) = (Pipes::default(), Splicing::default(), 1 << 20);
        let broken =
            poll_fn(|context| splicing.poll(context, (&source, &sink), &mut left, true, &pipes)).await;
        assert_eq!(broken, Err(Broken::Source));
        drop(receiver);

        let (mut sender, source) = pair().await;
        let (sink, receiver) = pair().await;
        // Unread bytes make the close a reset.
        sink.try_write(b"unread").unwrap();
        receiver.readable().await.unwrap();
        drop(receiver);
        let sending = tokio::spawn(async move { sender.write_all(&pattern(LENGTH)).await });
        let (mut splicing, mut left) = (Splicing::default(), LENGTH as u64);
        let broken =
            poll_fn(|context| splicing.poll(context, (&source, &sink), &mut left, true, &pipes)).await;
        assert_eq!(broken, Err(Broken::Sink));
        splicing.release(&pipes);
        sending.abort();
    }
}
