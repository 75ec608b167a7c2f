//! Idle connections to endpoints, kept for the next request. One pool per worker, so no lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::deadlines::{Deadlines, Ticks};
use crate::listener::Stream;
use crate::metrics::WorkerMetrics;

/// As many as a busy endpoint can use at once from one worker; more is a leak, not a pool.
const MAX_IDLE_PER_ENDPOINT: usize = 1024;

#[derive(Debug)]
struct Idle {
    stream: Stream,
    /// The tick from which on it is not lent.
    until: u32,
}

#[derive(Debug)]
pub struct UpstreamPool {
    idle: RefCell<HashMap<u64, Vec<Idle>, FixedState>>,
    deadlines: Rc<Deadlines>,
    metrics: Arc<WorkerMetrics>,
    /// Sockets that this worker may have, to clients and to endpoints.
    max_sockets: usize,
}

impl UpstreamPool {
    pub fn new(deadlines: Rc<Deadlines>, metrics: Arc<WorkerMetrics>, max_sockets: usize) -> Self {
        Self { idle: RefCell::default(), deadlines, metrics, max_sockets }
    }

    /// The connection to `endpoint` that was used last and that is still quiet. Readable means closed,
    /// or bytes that nobody asked for; neither can carry a request.
    pub fn take(&self, endpoint: u64) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(candidate) = connections.pop() {
            self.metrics.idle_upstream_connections.add(-1);
            if self.deadlines.now() < candidate.until && candidate.stream.is_quiet() {
                return Some(candidate.stream);
            }
        }
        None
    }

    /// Keeps a connection for a while, unless clients (`open` of them, each with one of its own upstream)
    /// need the sockets.
    pub fn put(&self, endpoint: u64, stream: Stream, open: usize, kept: Ticks) {
        let idle_now = usize::try_from(self.metrics.idle_upstream_connections.value()).unwrap_or(0);
        if idle_now + 2 * open > self.max_sockets {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() < MAX_IDLE_PER_ENDPOINT {
            connections.push(Idle { stream, until: self.deadlines.now() + kept.0 });
            self.metrics.idle_upstream_connections.add(1);
        }
    }

    /// Gives every idle connection up: the process has run out of sockets.
    pub fn clear(&self) {
        let dropped: usize = self.idle.borrow_mut().drain().map(|(_, connections)| connections.len()).sum();
        self.metrics.idle_upstream_connections.add(-(dropped as i64));
    }

    /// Drops connections that are closed or have been idle for too long. An endpoint that is no longer
    /// routed to gets no requests, so its connections go the same way.
    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.idle.borrow_mut().retain(|_, connections| {
            let before = connections.len();
            connections.retain(|idle| now < idle.until && idle.stream.is_quiet());
            self.metrics.idle_upstream_connections.add(connections.len() as i64 - before as i64);
            !connections.is_empty()
        });
    }
}
