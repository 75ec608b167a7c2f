//! What became of the configuration file each time that it was read again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub struct Reloads(Mutex<History>);

/// The state after the last reading.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// Whether the last reading was put in force.
    pub is_good: bool,
    /// When the configuration in force was read, since the Unix epoch.
    pub applied_at: Duration,
    pub applied: u64,
    pub rejected: u64,
    /// Keys whose values in the file wait for a restart.
    pub pending: usize,
}

impl Default for Reloads {
    /// The reading that the process was started with is good and counts for none.
    fn default() -> Self {
        let history = History { is_good: true, applied_at: now(), applied: 0, rejected: 0, pending: 0 };
        Self(Mutex::new(history))
    }
}

impl Reloads {
    /// A reading was put in force, but for `pending` keys.
    pub fn record_applied(&self, pending: usize) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = History {
            is_good: true,
            applied_at: now(),
            applied: last.applied + 1,
            rejected: last.rejected,
            pending,
        };
    }

    /// A reading changed nothing.
    pub fn record_rejected(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = History { is_good: false, rejected: last.rejected + 1, ..*last };
    }

    pub fn history(&self) -> History {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
