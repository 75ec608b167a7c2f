//! Failures on purpose, to see what comes of them.

use std::sync::Arc;
use std::time::Duration;

/// What happens to a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Names of the app's matches; empty: whichever took the request, or none.
    pub matches: Vec<Arc<str>>,
    /// 1 to 100.
    pub percent: u8,
    pub delay: Option<Duration>,
    /// The status that is answered then; `None`: the request goes on.
    pub abort: Option<u16>,
}
