//! A TCP listener's connection, in the order in which it happens: [`arrival`] finds out which app it is
//! for, [`dial`] finds an endpoint of it, the [`pump`](super::pump) carries bytes until the end,
//! and [`record`] counts and logs it once.

mod arrival;
mod dial;
mod record;

use std::rc::Rc;
use std::time::Instant;

use arrival::Arrival;
use dial::Dialled;
use record::Line;
use tokio::net::TcpStream;

use super::pump::{Carried, Course, pump};
use crate::listener::proxy_protocol::{Addresses, Origin};
use crate::listener::{Stream, TcpListenerContext, keep_alive};
use crate::metrics::ListenerCells;
use crate::table::CompiledApp;
use crate::worker::tunnels::{Begun, Kind};
use crate::worker::{Buffer, Deadline, Worker};

/// What everything that happens to a connection can ask.
struct Connection<'a> {
    origin: Origin,
    started: Instant,
    worker: &'a Worker,
    listener: &'a TcpListenerContext,
    deadline: &'a Deadline,
}

/// Carries one client's connection to an endpoint of its app until its end, whatever that is.
pub async fn serve(
    client: TcpStream,
    origin: Origin,
    worker: Rc<Worker>,
    listener: Rc<TcpListenerContext>,
    deadline: Deadline,
    cells: &ListenerCells,
) {
    let started = Instant::now();
    let connection =
        Connection { origin, started, worker: &worker, listener: &listener, deadline: &deadline };
    keep_alive(&client);
    let Arrival { stream, received, server_name, app } = match connection.arrive(client).await {
        Ok(arrival) => arrival,
        Err(failed) => return connection.record_failure(failed, cells),
    };
    let line = Line::new(&connection, server_name);
    // A tunnel outlives tables: the one that it began with is only used to find an endpoint.
    let Some(app) = worker.table().app(&app).cloned() else {
        return line.no_app(&app, received, cells);
    };
    let line = line.of_app(&app);
    connection.carry(stream, received, app, line).await;
}

impl Connection<'_> {
    async fn carry(
        &self,
        mut client: Stream,
        received: Option<Buffer>,
        app: std::sync::Arc<CompiledApp>,
        mut line: Line<'_>,
    ) {
        let worker = self.worker;
        // Both its listener and its app may say how long it may be silent.
        let listened = self.listener.settings.idle_timeout;
        let said = app.spec.timeouts.as_ref().and_then(|timeouts| timeouts.tunnel_idle);
        let idle = said.map_or(listened, |said| said.min(listened));
        let dialled = self.dial(&app, self.addresses(&client)).await;
        line.connected(&dialled);
        let Dialled { stream, endpoint, places: _places, .. } = match dialled {
            Ok(dialled) => dialled,
            Err(failed) => {
                received.into_iter().for_each(|buffer| worker.buffers.put(buffer));
                return line.refused(&app, failed.reason);
            }
        };
        // What it holds is given back after the connection is closed.
        let (_slot, mut upstream) = stream.into_parts();
        drop(app);
        upstream.keep_alive();
        let carried = Carried { to_upstream: received, to_client: None };
        let cells = endpoint.metrics.cells(worker.index);
        let ending = &self.listener.ending;
        let begun = Begun {
            kind: Kind::Tcp,
            listener: self.listener.name.clone(),
            client: self.origin.peer,
            endpoint: endpoint.clone(),
        };
        let open = worker.tunnels.begin(begun).await;
        let course = Course { worker, ending, deadline: self.deadline, idle, cells, open: &open };
        let passed = pump(&mut client, &mut upstream, carried, &course).await;
        line.ended(&passed, &endpoint);
    }

    /// What an endpoint is told that wants to know.
    fn addresses(&self, client: &Stream) -> Addresses {
        let destination = self.origin.destination.or_else(|| client.local_address());
        Addresses { source: self.origin.peer, destination: destination.unwrap_or(self.origin.peer) }
    }
}
