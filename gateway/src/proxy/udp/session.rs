//! One client's datagrams to one endpoint, and the endpoint's to the client.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::yield_now;

use super::BATCH;
use crate::listener::UdpListenerContext;
use crate::metrics::ListenerCells;
use crate::table::PooledEndpoint;
use crate::worker::{Admitted, Places, TICK, Worker};

#[derive(Debug)]
pub struct Session {
    pub client: SocketAddr,
    pub endpoint: Arc<PooledEndpoint>,
    /// At it, where that counts.
    _places: Places,
    /// The settings that it began with.
    pub listener: Rc<UdpListenerContext>,
    pub cells: Arc<ListenerCells>,
    pub started: Instant,
    /// Connected: it hears nobody but the endpoint, and of the endpoint's absence.
    upstream: UdpSocket,
    /// The tick of the last datagram in either direction.
    last: Cell<u32>,
    is_failed: Cell<bool>,
    pub received_bytes: Cell<u64>,
    pub sent_bytes: Cell<u64>,
}

impl Session {
    pub fn open(
        client: SocketAddr,
        Admitted { endpoint, places }: Admitted,
        (listener, cells): (Rc<UdpListenerContext>, Arc<ListenerCells>),
        now: u32,
    ) -> io::Result<Self> {
        let any: SocketAddr = match endpoint.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(endpoint.address)?;
        Ok(Self {
            client,
            endpoint,
            _places: places,
            listener,
            cells,
            started: Instant::now(),
            upstream: UdpSocket::from_std(socket)?,
            last: Cell::new(now),
            is_failed: Cell::new(false),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
        })
    }

    /// The endpoint's host has said that nobody listens there (ICMP), or its socket is of no use.
    pub fn is_failed(&self) -> bool {
        self.is_failed.get()
    }

    pub fn fail(&self, worker: &Worker) {
        self.is_failed.set(true);
        worker.rotations.suspect(self.endpoint.live.id);
    }

    pub fn silence(&self, now: u32) -> Duration {
        TICK * now.saturating_sub(self.last.get())
    }

    /// A datagram from the client.
    pub fn forward(&self, datagram: &[u8], worker: &Worker) -> io::Result<()> {
        self.last.set(worker.deadlines.now());
        // Asked directly: the runtime has heard nothing yet of a socket that has just been made.
        SockRef::from(&self.upstream).send(datagram)?;
        self.received_bytes.set(self.received_bytes.get() + datagram.len() as u64);
        self.endpoint.metrics.cells(worker.index).received_bytes.add(datagram.len() as u64);
        Ok(())
    }

    /// Passes the endpoint's datagrams to the client through the listener's `socket`, until it fails. To
    /// be dropped when the session ends.
    pub async fn answer(self: Rc<Self>, socket: Rc<UdpSocket>, worker: Rc<Worker>) {
        while !self.is_failed() {
            if self.upstream.readable().await.is_err() {
                return self.fail(&worker);
            }
            for _ in 0..BATCH {
                match self.answer_one(&socket, &worker) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return self.fail(&worker),
                }
            }
            yield_now().await;
        }
    }

    /// # Errors
    /// Of the endpoint's socket only: a client that cannot be reached may be so for a moment.
    fn answer_one(&self, socket: &UdpSocket, worker: &Worker) -> io::Result<()> {
        let cells = &self.cells.datagrams;
        let mut buffer = worker.buffers.take(0);
        let received = self.upstream.try_recv(buffer.room());
        if let Ok(count) = received {
            self.last.set(worker.deadlines.now());
            match SockRef::from(socket).send_to(&buffer.room()[..count], &self.client.into()) {
                Ok(_) => {
                    cells.sent.increment();
                    self.sent_bytes.set(self.sent_bytes.get() + count as u64);
                    self.endpoint.metrics.cells(worker.index).sent_bytes.add(count as u64);
                }
                Err(_) => cells.dropped.increment(),
            }
        }
        worker.buffers.put(buffer);
        received.map(drop)
    }
}
