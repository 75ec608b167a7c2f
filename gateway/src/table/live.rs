//! What outlives a table: one object per app and per endpoint, found again at every compilation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use healthcheck::HealthCell;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Unique in this process.
pub fn fresh_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// An app's state across tables.
#[derive(Debug, Default)]
pub struct AppLive {
    /// Grows whenever the set of endpoints that may be picked could have changed without a new table.
    pub generation: AtomicU64,
    /// Requests that the split has placed so far.
    pub split_cursor: AtomicU64,
    /// Copies of other apps' requests that it has placed so far.
    pub mirror_cursor: AtomicU64,
}

impl AppLive {
    /// Makes every worker look at the health of this app's endpoints again.
    pub fn health_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// An endpoint's state across tables: kept as long as its instance keeps its address.
#[derive(Debug)]
pub struct EndpointLive {
    pub id: u64,
    pub health: Arc<HealthCell>,
}

impl EndpointLive {
    pub fn new() -> Self {
        Self { id: fresh_id(), health: Arc::new(HealthCell::new()) }
    }
}

impl Default for EndpointLive {
    fn default() -> Self {
        Self::new()
    }
}
