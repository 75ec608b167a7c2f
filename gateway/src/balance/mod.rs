//! Which version takes a request, and which endpoint of it.
//!
//! Pure: time and randomness are arguments, and health arrives as a list of who may be picked. Turns are
//! [`SmoothRotation`]'s, which every app has; the other policies are [`Chooser`]'s.

mod chooser;
mod draw;
mod hash;
mod ketama;
mod keys;
mod maglev;
mod peak_ewma;
pub mod slow_start;
mod smooth;
mod split;
mod sticky;
pub mod zones;

pub use chooser::{Candidates, Chooser, Member};
pub use draw::{Dice, Draw};
pub use hash::{hash, mix};
pub use ketama::Ketama;
pub use keys::{KeyTable, key_of};
pub use maglev::Maglev;
pub use peak_ewma::PeakEwma;
pub use smooth::{Candidate, SmoothRotation};
pub use split::SplitSchedule;
pub use sticky::{Session, StickyKeys, Tag};
