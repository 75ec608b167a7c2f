//! What a soak writes down, and what follows from it. Without processes, so that it can be tested.

pub mod journal;
pub mod purpose;
pub mod trend;
