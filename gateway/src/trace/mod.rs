//! Traces: a request's place among all that one cause has led to, in whatever process.
//!
//! [`trace_context`](crate::message::trace_context) is what requests say of it. Where tracing is configured, a worker
//! continues or begins a trace for every request ([`worker`]), and a sample of them becomes spans that the
//! control plane sends to a collector ([`otlp`], [`export`]). Where it is not, none of this runs, and what
//! clients say of traces passes through unread.

mod attributes;
mod export;
mod otlp;
mod span;
mod worker;

pub use export::{ExportStatus, Exporter, Target, channel};
pub use span::{Attempted, Finished, Trace};
pub use worker::{Batch, WorkerTracing};
