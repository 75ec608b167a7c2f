//! One line per request, written by a thread of its own. A worker formats into memory; when the target
//! is slower than the traffic, lines are dropped and counted, and requests never wait.

mod entry;
mod format;
mod handover;
mod stamp;
mod status;
mod syslog;
mod target;
mod text;
mod worker;
mod writer;

pub use entry::{Ending, Entry, Logging, StreamEntry};
pub use format::Format;
pub use handover::Backlog;
pub use stamp::Clock;
pub use status::Status;
pub use syslog::{DEFAULT_FACILITY, Envelope, FACILITIES};
pub use target::{LogTarget, Rotation, StreamAddress, SyslogAddress};
pub use text::is_plain;
pub use worker::WorkerLog;
pub use writer::{LogPlan, LogWatch, LogWriter};
