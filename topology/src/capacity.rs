//! How much of the gateway, and of its own endpoints, an app may use at a time.

use std::time::Duration;

/// `None` in a field: no limit. Everything holds for the gateway as a whole, whatever the number of its
/// workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Requests under way, of all endpoints. Tunnels and TCP connections count as long as they last.
    pub in_flight: Option<u32>,
    /// Of each endpoint.
    pub in_flight_per_endpoint: Option<u32>,
    /// Connections open to all endpoints, idle ones too.
    pub connections: Option<u32>,
    /// To each endpoint.
    pub connections_per_endpoint: Option<u32>,
    /// Requests that wait for room.
    pub queue: u32,
    /// How long each of them waits.
    pub queue_timeout: Duration,
    /// `None`: what an endpoint may have under way does not follow its latency.
    pub adaptive: Option<Adaptive>,
}

impl Capacity {
    /// A waiting request holds its client's connection and its head: a hundred are under a mebibyte. And
    /// a hundred are served in time by ten places of 100 ms each; in front of fewer most would wait for
    /// nothing.
    pub const DEFAULT_QUEUE: u32 = 100;
    /// Who has waited longer than a second has noticed, and is better served by an answer.
    pub const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

    /// Nothing is limited.
    pub fn none() -> Self {
        Self {
            in_flight: None,
            in_flight_per_endpoint: None,
            connections: None,
            connections_per_endpoint: None,
            queue: Self::DEFAULT_QUEUE,
            queue_timeout: Self::DEFAULT_QUEUE_TIMEOUT,
            adaptive: None,
        }
    }

    /// Whether there is anything to wait for.
    pub fn limits_anything(&self) -> bool {
        self.in_flight.is_some()
            || self.in_flight_per_endpoint.is_some()
            || self.connections.is_some()
            || self.connections_per_endpoint.is_some()
            || self.adaptive.is_some()
    }
}

/// The range in which the limit of an endpoint's requests under way follows how it bears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adaptive {
    /// At least 1.
    pub min: u32,
    /// At least `min`.
    pub max: u32,
}

impl Adaptive {
    /// Enough for latencies to be measured.
    pub const DEFAULT_MIN: u32 = 4;
    /// More than most servers do at a time.
    pub const DEFAULT_MAX: u32 = 1000;
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { min: Self::DEFAULT_MIN, max: Self::DEFAULT_MAX }
    }
}
