//! What is counted, and how without a shared cache line: each worker has its own cells, which only it
//! writes; a scrape adds them up.

mod access_log;
mod admin;
mod by_reason;
mod cells;
mod collect;
mod connections;
mod datagrams;
mod deploy;
mod dns;
mod effects;
mod families;
mod filters;
mod lineage;
mod observers;
mod overload;
mod probes;
mod reloads;
mod retired;
mod service;
mod tls;
mod vips;
mod worker;

pub use admin::AdminMetrics;
pub use by_reason::ByReason;
pub use cells::{Counter, Gauge, Histogram, HistogramTotal, LATENCY_BUCKETS_SECONDS};
pub use collect::{Exporter, Sources};
pub use datagrams::DatagramCells;
pub use overload::is_overloaded;
pub use reloads::Reloads;
pub use retired::RetiredServices;
pub use service::{HedgeResult, ServiceCells, ServiceMetrics, ServiceOutcome};
pub use worker::{ListenerCells, ListenerMetrics, ListenerShare, WorkerMetrics};
