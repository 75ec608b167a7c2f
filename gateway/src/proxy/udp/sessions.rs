//! A listener's sessions on one worker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, spawn_local};

use super::session::Session;
use crate::access_log::StreamEntry;
use crate::listener::UdpListenerContext;
use crate::metrics::DatagramCells;
use crate::reason::Reason;
use crate::worker::Worker;

struct Open {
    session: Rc<Session>,
    answering: JoinHandle<()>,
}

pub struct Sessions {
    socket: Rc<UdpSocket>,
    worker: Rc<Worker>,
    listener: Rc<UdpListenerContext>,
    position: usize,
    most_connections: usize,
    /// Clients choose their addresses, so the hash is seeded.
    open: HashMap<SocketAddr, Open, RandomState>,
    /// No session begins any more.
    pub is_closing: bool,
}

impl Sessions {
    pub fn new(
        socket: Rc<UdpSocket>,
        worker: Rc<Worker>,
        listener: Rc<UdpListenerContext>,
        position: usize,
        most_connections: usize,
    ) -> Self {
        let open = HashMap::default();
        Self { socket, worker, listener, position, most_connections, open, is_closing: false }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes one datagram and gives it to its client's endpoint.
    ///
    /// # Errors
    /// Of the listener's socket. What an endpoint does not take is dropped and counted.
    pub fn pass_on(&mut self) -> io::Result<()> {
        let mut buffer = self.worker.buffers.take(0);
        let received = self.socket.try_recv_from(buffer.room());
        if let Ok((count, client)) = received {
            self.forward(client, &buffer.room()[..count]);
        }
        self.worker.buffers.put(buffer);
        received.map(drop)
    }

    fn forward(&mut self, client: SocketAddr, datagram: &[u8]) {
        // The first attempt hears of an absence that an earlier datagram has found.
        for _ in 0..2 {
            let Some(session) = self.session_of(client) else { return };
            match session.forward(datagram, &self.worker) {
                Ok(()) => return self.cells().received.increment(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => session.fail(&self.worker),
            }
        }
        self.cells().dropped.increment();
    }

    /// The client's session, a new one if it has none that works. `None`, counted, when there cannot be one.
    fn session_of(&mut self, client: SocketAddr) -> Option<Rc<Session>> {
        if let Some(open) = self.open.get(&client) {
            if !open.session.is_failed() {
                return Some(open.session.clone());
            }
            self.end(client, Some(Reason::ConnectFailed));
        }
        let is_full = self.open.len() >= self.listener.settings.max_sessions
            || self.worker.open_connections() >= self.most_connections;
        if is_full || self.is_closing {
            self.cells().refused.increment();
            return None;
        }
        let begun = self.begin(client);
        if begun.is_none() {
            self.cells().dropped.increment();
        }
        begun
    }

    fn begin(&mut self, client: SocketAddr) -> Option<Rc<Session>> {
        let worker = &self.worker;
        let table = worker.table();
        let app = table.app(&self.listener.settings.app)?;
        let spread = app.udp.as_ref()?;
        let endpoint = worker.rotations.pick(app, spread, spread.next_turn(&app.live))?;
        let session = Session::open(client, endpoint, worker.deadlines.now()).inspect_err(|error| {
            tracing::debug!(listener = %self.listener.name, %client, %error, "cannot begin a session");
        });
        let session = Rc::new(session.ok()?);
        let answer = session.clone().answer(self.socket.clone(), worker.clone(), self.position);
        let answering = spawn_local(answer);
        worker.count_connections(1);
        self.cells().begun.increment();
        self.cells().sessions.add(1);
        self.open.insert(client, Open { session: session.clone(), answering });
        Some(session)
    }

    /// Ends what has been silent for `idle`, and what has failed.
    pub fn sweep(&mut self, idle: Duration) {
        let now = self.worker.deadlines.now();
        let is_over = |open: &Open| open.session.is_failed() || open.session.silence(now) >= idle;
        let over: Vec<_> =
            self.open.iter().filter(|(_, open)| is_over(open)).map(|(client, _)| *client).collect();
        for client in over {
            let failed = self.open.get(&client).is_some_and(|open| open.session.is_failed());
            if !failed {
                self.cells().expired.increment();
            }
            self.end(client, failed.then_some(Reason::ConnectFailed));
        }
    }

    pub fn end_all(&mut self) {
        let clients: Vec<_> = self.open.keys().copied().collect();
        clients.into_iter().for_each(|client| self.end(client, Some(Reason::Shutdown)));
    }

    fn end(&mut self, client: SocketAddr, reason: Option<Reason>) {
        let Some(Open { session, answering }) = self.open.remove(&client) else { return };
        answering.abort();
        self.worker.count_connections(-1);
        self.cells().sessions.add(-1);
        self.worker.log.write_stream(|| StreamEntry {
            protocol: "UDP",
            client: client.ip(),
            listener: &self.listener.name,
            server_name: None,
            reason,
            app: Some(self.listener.settings.app.as_str()),
            endpoint: Some(&session.endpoint),
            received_bytes: session.received_bytes.get(),
            sent_bytes: session.sent_bytes.get(),
            seconds: session.started.elapsed().as_secs_f64(),
            connect_seconds: None,
            retries: 0,
        });
    }

    fn cells(&self) -> &DatagramCells {
        &self.worker.metrics.listeners[self.position].1.datagrams
    }
}
