//! Counters of one worker that belong to no app.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{ByReason, Counter, DatagramCells, Gauge};
use crate::worker::Step;

/// One listener's connections, as one worker sees them. Only that worker writes it.
#[derive(Debug, Default)]
pub struct ListenerCells {
    pub accepted: Counter,
    pub open: Gauge,
    /// Closed before anything was read of them.
    pub refused: ByReason,
    /// Closed between requests: nothing had come for the keepalive timeout.
    pub idled_out: Counter,
    /// Closed after as many requests as a connection may have.
    pub used_up: Counter,
    pub handshake_failures: Counter,
    /// Connections that came to no app, other than by a failed handshake.
    pub failures: ByReason,
    /// Of a UDP listener.
    pub datagrams: DatagramCells,
}

/// What one worker holds of a listener's cells: its own to write, and all to read.
#[derive(Debug, Clone)]
pub struct ListenerShare {
    pub own: Arc<ListenerCells>,
    all: Arc<[Arc<ListenerCells>]>,
}

impl ListenerShare {
    /// Connections that are open on any worker. Read without a lock: of workers that accept at the same
    /// moment each may not see the other's.
    pub fn open_everywhere(&self) -> usize {
        let open: i64 = self.all.iter().map(|cells| cells.open.value()).sum();
        usize::try_from(open).unwrap_or(0)
    }
}

impl std::ops::Deref for ListenerShare {
    type Target = ListenerCells;

    fn deref(&self) -> &ListenerCells {
        &self.own
    }
}

/// Everything that a worker counts outside of services and listeners. Only that worker writes it.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Lines of the access log that its writer got.
    pub log_lines: Counter,
    pub log_lines_dropped: Counter,
    /// Requests that traffic statistics never heard of.
    pub statistics_dropped: Counter,
    pub spans_dropped: Counter,
    pub idle_upstream_connections: Gauge,
    /// HTTP/2 connections closed because their clients only made us work.
    pub http2_floods: Counter,
    /// What was given up under load, by [`Step`].
    pub shed: [Counter; Step::ALL.len()],
    /// Whether it is being given up.
    pub shedding: [Gauge; Step::ALL.len()],
    /// How late the event loop was at the last tick, by work of its own.
    pub lag_millis: Gauge,
    /// Lent at the last tick.
    pub buffer_bytes: Gauge,
}

/// The cells of all listeners by name, one per worker each. The control plane and scrapes meet here;
/// a worker holds the cells that it writes and never comes by.
#[derive(Debug)]
pub struct ListenerMetrics {
    workers: usize,
    by_name: Mutex<BTreeMap<Arc<str>, Vec<Arc<ListenerCells>>>>,
}

impl ListenerMetrics {
    pub fn new(workers: usize) -> Self {
        Self { workers, by_name: Mutex::default() }
    }

    /// One per worker. A name whose listener or connections are still open anywhere goes on counting where
    /// it was; another one begins at 0.
    pub fn cells(&self, name: &Arc<str>) -> Vec<Arc<ListenerCells>> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.retain(|_, cells| is_in_use(cells));
        let fresh = || (0..self.workers).map(|_| Arc::default()).collect();
        by_name.entry(name.clone()).or_insert_with(fresh).clone()
    }

    /// As [`Self::cells`], with a view of the other workers' counts.
    pub fn shares(&self, name: &Arc<str>) -> Vec<ListenerShare> {
        let all: Arc<[_]> = self.cells(name).into();
        all.iter().map(|own| ListenerShare { own: own.clone(), all: all.clone() }).collect()
    }

    /// Every listener that is open or has connections left.
    pub fn for_each(&self, mut read: impl FnMut(&str, &[Arc<ListenerCells>])) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.retain(|_, cells| is_in_use(cells));
        by_name.iter().for_each(|(name, cells)| read(name, cells));
    }
}

/// Whether anybody but the map holds one: a worker that accepts or serves, or a command on its way to it.
fn is_in_use(cells: &[Arc<ListenerCells>]) -> bool {
    cells.iter().any(|cells| Arc::strong_count(cells) > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(metrics: &ListenerMetrics) -> Vec<String> {
        let mut names = Vec::new();
        metrics.for_each(|name, _| names.push(name.to_owned()));
        names
    }

    #[test]
    fn a_listener_counts_on_while_any_worker_uses_it_and_is_gone_afterwards() {
        let metrics = ListenerMetrics::new(2);
        let name: Arc<str> = "web".into();
        let mut cells = metrics.cells(&name);
        cells[0].accepted.increment();
        cells.truncate(1);
        assert_eq!(names(&metrics), ["web"]);
        assert_eq!(metrics.cells(&name)[0].accepted.value(), 1);
        drop(cells);
        assert_eq!(names(&metrics), [""; 0]);
        assert_eq!(metrics.cells(&name)[0].accepted.value(), 0);
    }
}
