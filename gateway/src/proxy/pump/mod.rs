//! Bytes both ways between two connections, as they come: what TCP listeners do from the first byte on,
//! and HTTP after an upgrade or a CONNECT.
//!
//! Each direction ends on its own: an end of the stream is passed on, and the other direction goes on.
//! A failure of either side ends both, as a reset, so that neither takes a cut stream for a whole one.
//! No memory is held while there is nothing to carry.

mod direction;

use std::task::{Context, Poll};
use std::time::Duration;

use direction::Direction;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::listener::Stream;
use crate::metrics::ServiceCells;
use crate::reason::Reason;
use crate::worker::tunnels::OpenTunnel;
use crate::worker::{Buffer, Deadline, Ending, TICK, Worker};

/// A connection of which one direction has ended says nothing when it is reset: it is asked this often.
const HALF_CLOSED_CHECK: Duration = Duration::from_secs(30);

/// One end of a tunnel.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where the tunnel's bytes are the socket's own. Nothing that belongs to the tunnel may
    /// be held anywhere else.
    fn plain(&self) -> Option<&TcpStream>;

    /// Makes the coming close a reset.
    fn reset_on_close(&self);

    /// Whether the connection has failed without anybody having been told.
    fn has_failed(&self) -> bool {
        self.plain().is_some_and(|socket| !matches!(socket.take_error(), Ok(None)))
    }
}

impl End for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn reset_on_close(&self) {
        // Where it fails the socket is already dead.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl End for Stream {
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    fn reset_on_close(&self) {
        Self::reset_on_close(self);
    }
}

/// What has been received already and belongs to the tunnel, by where it goes.
#[derive(Debug, Default)]
pub struct Carried {
    pub to_upstream: Option<Buffer>,
    pub to_client: Option<Buffer>,
}

/// What a tunnel lives by.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    pub worker: &'a Worker,
    /// Whether it is to be cut.
    pub ending: &'a Ending,
    /// Of the task that carries it.
    pub deadline: &'a Deadline,
    /// How long neither side may say anything.
    pub idle: Duration,
    /// Where bytes are counted as they go, and the tunnel for as long as it lives.
    pub cells: &'a ServiceCells,
    /// Its place among the worker's tunnels.
    pub open: &'a OpenTunnel,
}

/// What became of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that the upstream's socket took.
    pub to_upstream: u64,
    /// Bytes that the client's socket took.
    pub to_client: u64,
    pub ended: Ended,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides had said all that they had to say.
    InOrder,
    /// The client's connection failed.
    Client,
    /// The endpoint's connection failed.
    Upstream,
    /// Nobody had said anything for the idle timeout.
    Idle,
    /// The gateway stopped.
    Shutdown,
    /// An operator closed it.
    Operator,
}

impl Ended {
    /// `None`: in order.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::InOrder => None,
            Self::Client => Some(Reason::ClientAbort),
            Self::Upstream => Some(Reason::UpstreamTruncated),
            Self::Idle => Some(Reason::IdleTimeout),
            Self::Shutdown => Some(Reason::Shutdown),
            Self::Operator => Some(Reason::TunnelClosed),
        }
    }
}

/// Carries bytes between `client` and `upstream` until both sides are done, one of them fails, neither
/// has said anything for too long, or `course` says that it is to end. Counts bytes as they go, and
/// the tunnel for as long as it lives. The connections are to be closed after it: where that was not in
/// order, they are set to be reset.
///
/// A worker's way of waiting needs the task to be the one that claimed `deadline`.
pub async fn pump<C: End, U: End>(
    client: &mut C,
    upstream: &mut U,
    carried: Carried,
    course: &Course<'_>,
) -> Passed {
    let Course { worker, cells, .. } = *course;
    cells.tunnels_open.add(1);
    let mut tunnel =
        Tunnel { there: Direction::new(carried.to_upstream), back: Direction::new(carried.to_client) };
    let ended = tunnel.run(client, upstream, course).await;
    cells.tunnels_open.add(-1);
    if ended != Ended::InOrder {
        client.reset_on_close();
        upstream.reset_on_close();
    }
    let passed = Passed { to_upstream: tunnel.there.sent, to_client: tunnel.back.sent, ended };
    tunnel.there.release(worker);
    tunnel.back.release(worker);
    passed
}

struct Tunnel {
    there: Direction,
    back: Direction,
}

/// Which side a direction failed on.
enum Failed {
    Source,
    Sink,
}

impl Tunnel {
    async fn run<C: End, U: End>(&mut self, client: &mut C, upstream: &mut U, course: &Course<'_>) -> Ended {
        let Course { worker, ending, deadline, idle, cells, open } = *course;
        let mut last = worker.deadlines.now();
        self.wait(ending, deadline, idle);
        loop {
            let passing = deadline.bound(|context| {
                if open.is_closing() {
                    return Poll::Ready(Ended::Operator);
                }
                let before = (self.there.sent, self.back.sent, self.is_half_closed());
                let polled = self.poll(context, client, upstream, worker);
                cells.received_bytes.add(self.there.sent - before.0);
                cells.sent_bytes.add(self.back.sent - before.1);
                if before != (self.there.sent, self.back.sent, self.is_half_closed()) {
                    last = worker.deadlines.now();
                    self.wait(ending, deadline, idle);
                }
                polled
            });
            if let Ok(ended) = passing.await {
                return ended;
            }
            let silent = TICK * (worker.deadlines.now() - last);
            match () {
                () if ending.is_aborting() => return Ended::Shutdown,
                () if silent >= idle => return Ended::Idle,
                () if self.there.is_ended() && client.has_failed() => return Ended::Client,
                () if self.back.is_ended() && upstream.has_failed() => return Ended::Upstream,
                () => self.wait(ending, deadline, idle - silent),
            }
        }
    }

    fn is_half_closed(&self) -> bool {
        self.there.is_ended() || self.back.is_ended()
    }

    /// Sets the deadline for what is `left` of the silence that is allowed.
    fn wait(&self, ending: &Ending, deadline: &Deadline, left: Duration) {
        // What a shutdown has let pass is not put off.
        if !ending.is_aborting() {
            deadline.set(if self.is_half_closed() { left.min(HALF_CLOSED_CHECK) } else { left });
        }
    }

    fn poll<C: End, U: End>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut C,
        upstream: &mut U,
        worker: &Worker,
    ) -> Poll<Ended> {
        match self.there.poll(context, client, upstream, worker) {
            Err(Failed::Source) => return Poll::Ready(Ended::Client),
            Err(Failed::Sink) => return Poll::Ready(Ended::Upstream),
            Ok(()) => {}
        }
        match self.back.poll(context, upstream, client, worker) {
            Err(Failed::Source) => return Poll::Ready(Ended::Upstream),
            Err(Failed::Sink) => return Poll::Ready(Ended::Client),
            Ok(()) => {}
        }
        if self.there.is_ended() && self.back.is_ended() {
            return Poll::Ready(Ended::InOrder);
        }
        Poll::Pending
    }
}
