//! Counters of one worker that belong to no app.

use std::sync::Arc;

use super::{ByReason, Counter, DatagramCells, Gauge};

/// One listener's connections, as one worker sees them.
#[derive(Debug, Default)]
pub struct ListenerCells {
    pub accepted: Counter,
    pub open: Gauge,
    /// Closed at once because the worker had as many as it may have.
    pub refused: Counter,
    pub handshake_failures: Counter,
    /// Connections that came to no app, other than by a failed handshake.
    pub failures: ByReason,
    /// Of a UDP listener.
    pub datagrams: DatagramCells,
}

/// Everything that a worker counts outside of services. Only that worker writes it.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// In the order of the configuration.
    pub listeners: Vec<(Arc<str>, ListenerCells)>,
    pub log_lines_dropped: Counter,
    pub idle_upstream_connections: Gauge,
}

impl WorkerMetrics {
    pub fn new(listeners: impl Iterator<Item = Arc<str>>) -> Self {
        Self {
            listeners: listeners.map(|name| (name, ListenerCells::default())).collect(),
            log_lines_dropped: Counter::default(),
            idle_upstream_connections: Gauge::default(),
        }
    }
}
