//! One counter per reason.

use super::Counter;
use crate::reason::Reason;

#[derive(Debug)]
pub struct ByReason([Counter; Reason::ALL.len()]);

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ByReason {
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].increment();
    }

    pub fn value(&self, reason: Reason) -> u64 {
        self.0[reason as usize].value()
    }
}
