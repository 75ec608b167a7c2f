//! One line per request, written by a thread of its own. A worker formats into memory; when the target
//! is slower than the traffic, lines are dropped and counted, and requests never wait.

mod format;
mod worker;
mod writer;

pub use format::{Entry, Format, StreamEntry};
pub use worker::WorkerLog;
pub use writer::{LogTarget, LogWriter};
