//! Something that a server waits for until the test allows it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Closed until it is opened, then open for good. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub fn open(&self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// Returns when the gate is open.
    pub fn pass(&self) {
        let closed = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.shared.1.wait_while(closed, |is_open| !*is_open));
    }
}
