//! A second endpoint for requests whose first one is slow.

use std::time::Duration;

/// When a request that can be repeated is sent to a second endpoint, whose answer counts if it comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// Without a response's head from the first one.
    pub after: Duration,
}
