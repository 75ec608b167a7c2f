//! Counters of a UDP listener.

use super::{Counter, Gauge};

/// As one worker sees it.
#[derive(Debug, Default)]
pub struct DatagramCells {
    pub sessions: Gauge,
    pub begun: Counter,
    /// Over after nobody had said anything for the idle timeout.
    pub expired: Counter,
    /// Datagrams of clients that found the table of sessions full.
    pub refused: Counter,
    /// Datagrams that went to an endpoint.
    pub received: Counter,
    /// Datagrams that went to a client.
    pub sent: Counter,
    /// Datagrams that no socket took, or that no endpoint was there for.
    pub dropped: Counter,
}

impl DatagramCells {
    /// Whether any datagram has come.
    pub fn are_used(&self) -> bool {
        [&self.begun, &self.refused, &self.dropped].iter().any(|counter| counter.value() > 0)
    }
}
