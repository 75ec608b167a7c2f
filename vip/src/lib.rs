//! Which gateway owns a virtual IP, and when it must let go of it.
//!
//! This crate decides who holds an address: by a register that gateways change by compare-and-set, and by
//! leases that they grant one another, so that at no time two of them answer for it. It also decides in
//! which order a gateway may say that it serves. It refuses to know what serving takes (listeners,
//! tables and drains are the gateway's), which registry the register lies in ([`lease::Lease`]), and how
//! a kernel is told of an address ([`driver::Platform`]).
//!
//! Read [`machine`] for the protocol, and docs/vips.md for what is guaranteed under which conditions.

#[cfg(test)]
mod check;
pub mod config;
pub mod driver;
pub mod eligibility;
pub mod identity;
pub mod lease;
pub mod machine;
pub mod metrics;
pub mod moment;
pub mod net;
pub mod peer;
pub mod placement;
pub mod register;
mod serving;

pub use serving::{Serving, ServingSwitch, ServingWatch};
