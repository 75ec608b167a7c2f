//! How instances are started, stopped, and made known.
//!
//! This crate decides what runs where and how that changes (`engine`, over parts that are pure), how it
//! is run so that nothing of it is left behind (`runtime`), and in which order its address enters and
//! leaves the registry. It refuses to know how requests reach an instance, and what the registry is made of.

pub mod autoscale;
pub mod dependencies;
pub mod engine;
mod error;
pub mod lifecycle;
pub mod model;
pub mod reconcile;
mod registrar;
pub mod rollout;
pub mod runtime;
pub mod scheduler;

pub use error::DeployError;
pub use registrar::Registrar;
