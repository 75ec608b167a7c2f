//! Connections come in, and the last ones when the door closes.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, spawn_local};

use super::handler::Handler;
use crate::listener::{Bound, BoundSocket};
use crate::proxy::udp;
use crate::worker::{Deadline, Worker};

/// After the process ran out of file descriptors: connections need a moment to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a listener until the worker stops accepting; `most` connections at a time. `None`, with a
/// line in the log, when the runtime does not take the socket.
pub fn start(worker: Rc<Worker>, bound: Bound, position: usize, most: usize) -> Option<JoinHandle<()>> {
    let Bound { socket, speaks } = bound;
    let handler = Rc::new(Handler::from(speaks));
    let name = handler.clone();
    let started = match (socket, &*handler) {
        (BoundSocket::Datagram(socket), Handler::Udp(listener)) => UdpSocket::from_std(socket)
            .map(|socket| spawn_local(udp::serve(socket, worker, listener.clone(), position, most))),
        (BoundSocket::Stream(socket), _) => TcpListener::from_std(socket)
            .map(|listener| spawn_local(Door { worker, handler, position, most }.serve(listener))),
        (BoundSocket::Datagram(_), _) => Err(io::ErrorKind::Unsupported.into()),
    };
    let report = |error: &io::Error| tracing::error!(%error, listener = name.name(), "cannot listen");
    started.inspect_err(report).ok()
}

/// One listener's way into one worker.
struct Door {
    worker: Rc<Worker>,
    handler: Rc<Handler>,
    position: usize,
    most: usize,
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        let mut stop = pin!(self.worker.shared.stop_accepting.cancelled());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, listener = self.handler.name(), "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = self.admit_waiting(listener) {
            tracing::warn!(%error, listener = self.handler.name(), "cannot accept the last connections");
        }
    }

    /// What the kernel has already accepted would be reset with the socket: it is served. The queue is
    /// asked directly, because the runtime only knows of what it was told.
    fn admit_waiting(&self, listener: TcpListener) -> io::Result<()> {
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

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let cells = &self.worker.metrics.listeners[self.position].1;
        if self.worker.open_connections() >= self.most {
            cells.refused.increment();
            return;
        }
        cells.accepted.increment();
        cells.open.add(1);
        self.worker.count_connections(1);
        let open = Open { worker: self.worker.clone(), position: self.position };
        let handler = self.handler.clone();
        spawn_local(async move {
            let worker = open.worker.clone();
            let deadline = Deadline::claim(worker.deadlines.clone()).await;
            handler.serve(stream, peer, worker, deadline, open.position).await;
            drop(open);
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// An open connection, counted until it is dropped.
struct Open {
    worker: Rc<Worker>,
    position: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.count_connections(-1);
        self.worker.metrics.listeners[self.position].1.open.add(-1);
    }
}
