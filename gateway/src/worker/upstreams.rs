//! Idle connections to endpoints, kept for the next request. One pool per worker, so no lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::admission::Slot;
use super::deadlines::{Deadlines, Ticks};
use crate::listener::Stream;
use crate::metrics::WorkerMetrics;

/// As many as a busy endpoint can use at once from one worker; more is a leak, not a pool.
const MAX_IDLE_PER_ENDPOINT: usize = 1024;

/// An open connection to an endpoint.
#[derive(Debug)]
pub struct EndpointStream {
    stream: Stream,
    /// Of those that the app may have, where that is limited.
    slot: Option<Box<Slot>>,
}

impl EndpointStream {
    pub fn new(stream: Stream, slot: Option<Box<Slot>>) -> Self {
        Self { stream, slot }
    }

    /// The connection, and what has to be held as long as it is open.
    pub fn into_parts(self) -> (Option<Box<Slot>>, Stream) {
        (self.slot, self.stream)
    }

    /// Whether somebody else waits for it to be closed.
    fn is_wanted(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is_wanted())
    }
}

impl Deref for EndpointStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl DerefMut for EndpointStream {
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

#[derive(Debug)]
struct Idle {
    connection: EndpointStream,
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
    /// Whether any of them was ever one of a limited number.
    are_limited: Cell<bool>,
}

impl UpstreamPool {
    pub fn new(deadlines: Rc<Deadlines>, metrics: Arc<WorkerMetrics>, max_sockets: usize) -> Self {
        Self { idle: RefCell::default(), deadlines, metrics, max_sockets, are_limited: Cell::new(false) }
    }

    /// The connection to `endpoint` that was used last and that is still quiet. Readable means closed,
    /// or bytes that nobody asked for; neither can carry a request.
    pub fn take(&self, endpoint: u64) -> Option<EndpointStream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(candidate) = connections.pop() {
            self.metrics.idle_upstream_connections.add(-1);
            if self.deadlines.now() < candidate.until && candidate.connection.is_quiet() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection for a while, unless clients (`open` of them, each with one of its own upstream)
    /// need the sockets.
    pub fn put(&self, endpoint: u64, connection: EndpointStream, open: usize, kept: Ticks) {
        let idle_now = usize::try_from(self.metrics.idle_upstream_connections.value()).unwrap_or(0);
        if idle_now + 2 * open > self.max_sockets || connection.is_wanted() {
            return;
        }
        if connection.slot.is_some() {
            self.are_limited.set(true);
        }
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() < MAX_IDLE_PER_ENDPOINT {
            connections.push(Idle { connection, until: self.deadlines.now() + kept.0 });
            self.metrics.idle_upstream_connections.add(1);
        }
    }

    /// Gives every idle connection up: the process has run out of sockets.
    pub fn clear(&self) {
        let dropped: usize = self.idle.borrow_mut().drain().map(|(_, connections)| connections.len()).sum();
        self.metrics.idle_upstream_connections.add(-(dropped as i64));
    }

    /// Closes the oldest connection of each endpoint that somebody waits for. Once per tick; costs a branch
    /// where nothing is limited.
    pub fn yield_wanted(&self) {
        if !self.are_limited.get() {
            return;
        }
        for connections in self.idle.borrow_mut().values_mut() {
            if connections.first().is_some_and(|idle| idle.connection.is_wanted()) {
                connections.remove(0);
                self.metrics.idle_upstream_connections.add(-1);
            }
        }
    }

    /// Drops connections that are closed or have been idle for too long. An endpoint that is no longer
    /// routed to gets no requests, so its connections go the same way.
    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.idle.borrow_mut().retain(|_, connections| {
            let before = connections.len();
            connections.retain(|idle| now < idle.until && idle.connection.is_quiet());
            self.metrics.idle_upstream_connections.add(connections.len() as i64 - before as i64);
            !connections.is_empty()
        });
    }
}
