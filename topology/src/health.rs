//! How an app wants its endpoints probed.

use std::sync::Arc;
use std::time::Duration;

/// What follows when an endpoint has failed `fall` probes in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// No traffic until it has passed `rise` probes in a row.
    #[default]
    Eject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// Request target of the probe.
    pub path: Arc<str>,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// From the start of a probe to the end of the response's head.
    pub timeout: Duration,
    /// Probes in a row that must pass before an ejected endpoint takes traffic again.
    pub rise: u32,
    /// Probes in a row that must fail before an endpoint is ejected.
    pub fall: u32,
    pub on_failure: OnFailure,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            // The contract of the platform's containers.
            path: Arc::from("/_ping"),
            // With fall = 3 a silent death is noticed within 15 s (a refused connection at once, by
            // the request that meets it), at one request per endpoint and 5 s.
            interval: Duration::from_secs(5),
            // A ping that takes a second is as bad as none for the requests queued behind it.
            timeout: Duration::from_secs(1),
            // One lucky answer of a flapping instance does not bring it back.
            rise: 2,
            // One lost packet does not take it out.
            fall: 3,
            on_failure: OnFailure::Eject,
        }
    }
}
