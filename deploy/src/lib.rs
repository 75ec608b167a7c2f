//! How instances are started, stopped, and made known.
//!
//! This crate decides how a process is run so that nothing of it is left behind, and in which order its
//! address enters and leaves the registry. It refuses to know how requests reach an instance, and what
//! the registry is made of.

mod error;
mod registrar;
pub mod runtime;

pub use error::DeployError;
pub use registrar::Registrar;
