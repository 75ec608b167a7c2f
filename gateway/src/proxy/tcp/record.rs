//! Once per connection: what is counted and what is logged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use topology::{AppId, LogSettings};

use super::Connection;
use super::arrival::Failed;
use super::dial::{Dialled, NotDialled};
use crate::access_log::{Ending, StreamEntry};
use crate::metrics::{ListenerCells, ServiceMetrics};
use crate::proxy::pump::Passed;
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};
use crate::worker::Buffer;

impl Connection<'_> {
    /// A connection that came to no app.
    pub fn record_failure(&self, failed: Failed, cells: &ListenerCells) {
        match failed {
            Failed::Handshake => cells.handshake_failures.increment(),
            Failed::Route(reason, server_name) => {
                cells.failures.count(reason);
                Line::new(self, server_name).write(Some(reason), None, (0, 0));
            }
        }
    }
}

/// What is known of a connection so far.
pub struct Line<'a> {
    connection: &'a Connection<'a>,
    server_name: Option<String>,
    app: Option<Arc<ServiceMetrics>>,
    /// The app's, as they were when the connection came.
    log: Option<Arc<LogSettings>>,
    connect: Option<Duration>,
    retries: u32,
}

impl<'a> Line<'a> {
    pub fn new(connection: &'a Connection<'a>, server_name: Option<String>) -> Self {
        Self { connection, server_name, app: None, log: None, connect: None, retries: 0 }
    }

    /// What is to be carried to `app`.
    pub fn of_app(mut self, app: &CompiledApp) -> Self {
        self.app = Some(app.metrics.clone());
        self.log = app.spec.log.clone();
        self
    }

    /// The configuration names an app that nobody has announced.
    pub fn no_app(self, app: &AppId, received: Option<Buffer>, cells: &ListenerCells) {
        let Connection { worker, listener, .. } = self.connection;
        tracing::debug!(listener = %listener.name, %app, "no such app: closing");
        received.into_iter().for_each(|buffer| worker.buffers.put(buffer));
        cells.failures.count(Reason::NoEndpoint);
        self.write(Some(Reason::NoEndpoint), None, (0, 0));
    }

    pub fn connected(&mut self, dialled: &Result<Dialled, NotDialled>) {
        self.connect = dialled.is_ok().then(|| self.connection.started.elapsed());
        self.retries = dialled.as_ref().map_or_else(|failed| failed.retries, |dialled| dialled.retries);
    }

    /// No endpoint took it.
    pub fn refused(self, app: &CompiledApp, reason: Reason) {
        app.metrics.cells(self.connection.worker.index).count_tunnel_failure(reason);
        self.write(Some(reason), None, (0, 0));
    }

    pub fn ended(self, passed: &Passed, endpoint: &PooledEndpoint) {
        let cells = endpoint.metrics.cells(self.connection.worker.index);
        let reason = passed.ended.reason();
        match reason {
            None => cells.count_tunnel(),
            Some(reason) => cells.count_tunnel_failure(reason),
        }
        self.write(reason, Some(endpoint), (passed.to_upstream, passed.to_client));
    }

    fn write(&self, reason: Option<Reason>, endpoint: Option<&PooledEndpoint>, bytes: (u64, u64)) {
        let Connection { origin, started, worker, listener, .. } = self.connection;
        let status = StreamEntry::status(reason);
        if !worker.log.choose(self.log.as_deref()).includes(Ending::is_failure(status, reason)) {
            return;
        }
        let at = Instant::now();
        worker.log.write_stream(|| StreamEntry {
            protocol: "TCP",
            server_name: self.server_name.as_deref(),
            ending: Ending {
                at,
                client: origin.peer.ip(),
                listener: &listener.name,
                status,
                reason,
                app: self.app.as_ref().map(|metrics| metrics.app().as_str()),
                endpoint,
                received_bytes: bytes.0,
                sent_bytes: bytes.1,
                took: at - *started,
                awaited: self.connect,
                retries: self.retries,
            },
        });
    }
}
