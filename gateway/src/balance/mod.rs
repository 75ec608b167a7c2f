//! Which version takes a request, and which endpoint of it.
//!
//! Pure: time and randomness play no part, and health arrives as a list of who may be picked.

pub mod slow_start;
mod smooth;
mod split;

pub use smooth::{Candidate, SmoothRotation};
pub use split::SplitSchedule;
