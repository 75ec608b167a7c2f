//! A listener's sessions on one worker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, spawn_local};

use super::Place;
use super::session::Session;
use crate::access_log::{Ending, StreamEntry};
use crate::listener::UdpListenerContext;
use crate::metrics::ListenerCells;
use crate::proxy::hashing;
use crate::reason::Reason;
use crate::worker::{Wanted, Worker};

struct Open {
    session: Rc<Session>,
    answering: JoinHandle<()>,
}

pub struct Sessions<P> {
    socket: Rc<UdpSocket>,
    place: Rc<P>,
    worker: Rc<Worker>,
    /// Clients choose their addresses, so the hash is seeded.
    open: HashMap<SocketAddr, Open, RandomState>,
    /// No session begins any more.
    pub is_closing: bool,
}

impl<P: Place> Sessions<P> {
    pub fn new(socket: Rc<UdpSocket>, place: Rc<P>) -> Self {
        let worker = place.worker().clone();
        Self { socket, place, worker, open: HashMap::default(), is_closing: false }
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
                Ok(()) => return session.cells.datagrams.received.increment(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => session.fail(&self.worker),
            }
        }
        self.place.current().inspect(|(_, cells)| cells.datagrams.dropped.increment());
    }

    /// The client's session, a new one if it has none that works. `None`, counted, when there cannot be one.
    fn session_of(&mut self, client: SocketAddr) -> Option<Rc<Session>> {
        if let Some(open) = self.open.get(&client) {
            if !open.session.is_failed() {
                return Some(open.session.clone());
            }
            self.end(client, Some(Reason::ConnectFailed));
        }
        let (listener, cells) = self.place.current()?;
        if self.is_closing || self.open.len() >= listener.settings.max_sessions || self.place.is_full() {
            cells.datagrams.refused.increment();
            return None;
        }
        let begun = self.begin(client, listener, cells.clone());
        if begun.is_none() {
            cells.datagrams.dropped.increment();
        }
        begun
    }

    fn begin(
        &mut self,
        client: SocketAddr,
        listener: Rc<UdpListenerContext>,
        cells: Arc<ListenerCells>,
    ) -> Option<Rc<Session>> {
        let worker = &self.worker;
        let table = worker.table();
        let app = table.app(&listener.settings.app)?;
        let spread = app.udp.as_ref()?;
        let turn = spread.next_turn(&app.live.split_cursor);
        let key = hashing::client_key(app, client.ip());
        let admitted = worker.enter_unlimited(Wanted { app, spread, turn, key, home: None })?;
        let name = listener.name.clone();
        let session = Session::open(client, admitted, (listener, cells), worker.deadlines.now());
        let session = session.inspect_err(|error| {
            tracing::debug!(listener = %name, %client, %error, "cannot begin a session");
        });
        let session = Rc::new(session.ok()?);
        let answer = session.clone().answer(self.socket.clone(), worker.clone());
        let answering = spawn_local(answer);
        self.place.count(1);
        session.cells.datagrams.begun.increment();
        session.cells.datagrams.sessions.add(1);
        self.open.insert(client, Open { session: session.clone(), answering });
        Some(session)
    }

    /// Ends what has been silent for its idle timeout, or for `longest`, and what has failed.
    pub fn sweep(&mut self, longest: Duration) {
        let now = self.worker.deadlines.now();
        let is_over = |open: &Open| {
            let idle = open.session.listener.settings.idle_timeout.min(longest);
            open.session.is_failed() || open.session.silence(now) >= idle
        };
        let over: Vec<_> =
            self.open.iter().filter(|(_, open)| is_over(open)).map(|(client, _)| *client).collect();
        for client in over {
            let Some(Open { session, .. }) = self.open.get(&client) else { continue };
            let failed = session.is_failed();
            if !failed {
                session.cells.datagrams.expired.increment();
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
        self.place.count(-1);
        session.cells.datagrams.sessions.add(-1);
        self.log(client, &session, reason);
    }

    fn log(&self, client: SocketAddr, session: &Session, reason: Option<Reason>) {
        let (log, app) = (&self.worker.log, &session.listener.settings.app);
        let status = StreamEntry::status(reason);
        let table = self.worker.table();
        let settings = table.app(app).and_then(|app| app.spec.log.as_deref());
        if !log.choose(settings).includes(Ending::is_failure(status, reason)) {
            return;
        }
        let at = Instant::now();
        log.write_stream(|| StreamEntry {
            protocol: "UDP",
            server_name: None,
            ending: Ending {
                at,
                client: client.ip(),
                listener: &session.listener.name,
                status,
                reason,
                app: Some(app.as_str()),
                endpoint: Some(&session.endpoint),
                received_bytes: session.received_bytes.get(),
                sent_bytes: session.sent_bytes.get(),
                took: at - session.started,
                awaited: None,
                retries: 0,
            },
        });
    }
}
