//! Connections come in, and the last ones when the door closes.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use crate::listener::proxy_protocol::Mode;
use crate::listener::{Bound, BoundSocket, Limits, ListenerId, Speaks, UdpListenerContext};
use crate::metrics::{ListenerCells, ListenerShare};
use crate::proxy::udp;
use crate::reason::Reason;
use crate::worker::{Counted, Ending, Step, TooMany, Worker};

/// After the process ran out of file descriptors: connections need a moment to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken in a row. Then it is the turn of those that are open: who comes back as fast as he is turned
/// away costs them some 100 µs at a time.
const ACCEPTS_PER_TURN: u32 = 16;

/// Serves a listener until it is closed or the worker stops accepting; the worker has `most` connections
/// at a time. `None`, with a line in the log, when the runtime does not take the socket.
pub fn open(worker: Rc<Worker>, bound: Bound, most: usize) -> Option<(Rc<Door>, JoinHandle<()>)> {
    let Bound { id, cells, held, socket, speaks } = bound;
    let ending = Rc::new(Ending::new(worker.clone(), id.0));
    let current = Rc::new(Current::new(speaks, ending.clone(), cells));
    let door = Rc::new(Door {
        id,
        stop: worker.shared.stop_accepting.child_token(),
        worker,
        current: RefCell::new(current),
        ending,
        connections: Cell::new(0),
        most,
    });
    let serving = door.clone();
    let started = match socket {
        BoundSocket::Stream(socket) => TcpListener::from_std(socket).map(|listener| {
            spawn_local(async move {
                serving.serve(listener).await;
                drop(held);
            })
        }),
        BoundSocket::Datagram(socket) => UdpSocket::from_std(socket).map(|socket| {
            spawn_local(async move {
                udp::serve(socket, serving).await;
                drop(held);
            })
        }),
    };
    let report = |error: &io::Error| tracing::error!(%error, listener = %door.name(), "cannot listen");
    let accepting = started.inspect_err(report).ok()?;
    Some((door, accepting))
}

/// One listener's way into one worker.
pub struct Door {
    pub id: ListenerId,
    worker: Rc<Worker>,
    /// For connections to come. Those that are open keep what they began with.
    current: RefCell<Rc<Current>>,
    ending: Rc<Ending>,
    /// Cancelled: accept no more.
    stop: CancellationToken,
    connections: Cell<usize>,
    most: usize,
}

/// A listener's settings, and where its connections are counted.
pub struct Current {
    handler: Handler,
    limits: Arc<Limits>,
    pub cells: ListenerShare,
}

impl Current {
    fn new(speaks: Speaks, ending: Rc<Ending>, cells: ListenerShare) -> Self {
        let limits = speaks.limits();
        Self { handler: Handler::new(speaks, ending, cells.clone()), limits, cells }
    }

    /// Whether the listener has as many connections as it may have.
    fn is_full(&self) -> bool {
        let most = self.limits.max_connections;
        most != usize::MAX && self.cells.open_everywhere() >= most
    }

    /// Counts a connection of the client at `address`, unless it is a proxy that we trust: then it has many clients.
    ///
    /// # Errors
    /// When the client has as many as it may have, or has to stay out for a while.
    pub fn count_client(&self, worker: &Worker, address: IpAddr) -> Result<Option<Counted>, Reason> {
        let shared = &worker.shared;
        if shared.is_trusted(address) {
            return Ok(None);
        }
        let client = address.into();
        if shared.penalties.out_until(client, worker.deadlines.now()).is_some() {
            return Err(Reason::ClientPenalty);
        }
        let most = match self.limits.max_connections_per_client {
            Some(most) => most,
            // A proxy or a probe of this machine.
            None if address.is_loopback() => return Ok(None),
            None => shared.max_connections_per_client,
        };
        shared.clients.admit(client, most).map_err(|TooMany| Reason::ClientConnectionLimit)
    }
}

impl Door {
    pub fn open_connections(&self) -> usize {
        self.connections.get()
    }

    pub fn change(&self, speaks: Speaks, cells: ListenerShare) {
        *self.current.borrow_mut() = Rc::new(Current::new(speaks, self.ending.clone(), cells));
    }

    pub fn close(&self) {
        self.ending.drain();
        self.stop.cancel();
    }

    /// Ends every connection that is left; each still has the chance to say so, to be counted and to be
    /// logged. Some wait once more for that, so this is repeated until none is left.
    pub fn cut(&self) {
        if !self.ending.is_aborting() {
            let (connections, listener) = (self.open_connections(), self.name());
            tracing::warn!(connections, %listener, "cutting connections of a closed listener that did not end in time");
        }
        self.ending.abort();
    }

    fn name(&self) -> Arc<str> {
        self.current.borrow().handler.name().clone()
    }

    async fn serve(self: Rc<Self>, listener: TcpListener) {
        let mut stop = pin!(self.stop.cancelled());
        let mut taken = 0;
        loop {
            if taken == ACCEPTS_PER_TURN {
                taken = 0;
                tokio::task::yield_now().await;
            }
            taken += 1;
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, listener = %self.name(), "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = self.admit_waiting(listener) {
            tracing::warn!(%error, listener = %self.name(), "cannot accept the last connections");
        }
    }

    /// What the kernel has already accepted would be reset with the socket: it is served. The queue is
    /// asked directly, because the runtime only knows of what it was told. Where another process goes on
    /// with the socket, both take from the queue, and what this one leaves is the other's.
    fn admit_waiting(self: &Rc<Self>, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.admit(TcpStream::from_std(stream)?, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let current = self.current.borrow().clone();
        let counted = match self.judge(&current, peer) {
            Ok(counted) => counted,
            Err(reason) => return self.turn_away(stream, &current, reason),
        };
        let open = Open::count(self.clone(), current, counted);
        spawn_local(async move {
            let worker = open.door.worker.clone();
            let deadline = open.door.ending.deadline().await;
            open.current.handler.serve(stream, peer, worker, deadline, &open.current).await;
            drop(open);
        });
    }
}

impl Door {
    /// Whether a connection from `peer` may begin, before anything is read of it.
    fn judge(&self, current: &Current, peer: SocketAddr) -> Result<Option<Counted>, Reason> {
        let held = self.worker.open_connections() + self.worker.detention.len();
        if held >= self.most || current.is_full() {
            return Err(Reason::ConnectionLimit);
        }
        if self.worker.gives_up(Step::Connections) {
            return Err(Reason::Overload);
        }
        if current.handler.proxy_protocol() == Mode::Required {
            // The peer stands for clients that it is about to name.
            return Ok(None);
        }
        current.count_client(&self.worker, peer.ip())
    }

    /// Closes a connection before it begins; see [`crate::worker`]'s detention for who is kept waiting.
    fn turn_away(&self, stream: TcpStream, current: &Current, reason: Reason) {
        current.cells.refused.count(reason);
        if reason == Reason::ClientPenalty
            && let Ok(socket) = stream.into_std()
        {
            self.worker.detention.hold(socket, self.worker.deadlines.now());
        }
    }
}

/// What a UDP listener's sessions need of it.
impl udp::Place for Door {
    fn current(&self) -> Option<(Rc<UdpListenerContext>, Arc<ListenerCells>)> {
        let current = self.current.borrow();
        let Handler::Udp(listener) = &current.handler else { return None };
        Some((listener.clone(), current.cells.own.clone()))
    }

    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn is_aborting(&self) -> bool {
        self.ending.is_aborting()
    }

    fn is_full(&self) -> bool {
        self.worker.open_connections() >= self.most
    }

    fn count(&self, change: isize) {
        self.connections.set(self.connections.get().saturating_add_signed(change));
        self.worker.count_connections(change);
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// An open connection, counted until it is dropped.
struct Open {
    door: Rc<Door>,
    current: Rc<Current>,
    /// Among its client's.
    _counted: Option<Counted>,
}

impl Open {
    fn count(door: Rc<Door>, current: Rc<Current>, counted: Option<Counted>) -> Self {
        current.cells.accepted.increment();
        let open = Self { door, current, _counted: counted };
        open.add(1);
        open
    }

    fn add(&self, change: isize) {
        let Self { door, current, .. } = self;
        current.cells.open.add(change as i64);
        door.connections.set(door.connections.get().saturating_add_signed(change));
        door.worker.count_connections(change);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.add(-1);
    }
}
