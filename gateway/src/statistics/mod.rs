//! What an app's traffic was over the last minutes: how much, how quickly, by whom, for what.
//!
//! A worker counts into sketches of its own, whose size does not depend on the traffic, and gives them away
//! every few seconds; the control plane adds them up, minute by minute, within a bound on memory.
//! Nothing here is exact that need not be, and every estimate says how far off it may be.

mod clients;
mod latency;
mod store;
mod tally;
mod top;
mod worker;

pub use clients::Clients;
pub use latency::Latencies;
pub use store::{MINUTES, Period, STEP, Store, StoreStatus};
pub use tally::{CLASSES, Counts, Seen, Tally, address_of};
pub use top::{Item, Top};
pub use worker::{Delta, WorkerStatistics, channel};
