//! Names that follow what is routed: an authoritative server for the platform's zone, and a client that keeps them on others.
//!
//! ```text
//! RoutingTable ──► names ──► zone ──► ArcSwap ──► answer ◄── serve (UDP, TCP)
//! virtual IPs ───► health ───┘           ├──► notify, transfer: secondaries
//! probes ────────────┘                   └──► updates: other primaries (RFC 2136)
//! ```
//!
//! What is decided stands apart from sockets: [`names`] makes names from a table, [`zone`] finds them, [`answer`] goes from
//! bytes to bytes, [`rate`] judges with the time as an argument, [`updates::plan`] compares. All of it runs on one
//! thread of its own, so that a flood of queries costs neither requests nor the control plane anything but a core.

pub mod access;
pub mod answer;
pub mod cells;
mod desk;
pub mod health;
pub mod names;
mod notify;
mod publish;
pub mod rate;
mod serve;
mod service;
pub mod transfer;
pub mod tsig;
pub mod updates;
pub mod wire;
pub mod zone;

pub use desk::{DnsDesk, Published};
pub use service::{DnsPlan, DnsService, Surroundings, inspect_keys};
