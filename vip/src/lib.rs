//! What the owner of a virtual IP must know of its gateway: whether it serves.
//!
//! This crate decides in which order a gateway may say so, and that a gateway which is gone no longer
//! serves. It refuses to know what serving takes: listeners, tables and drains are the gateway's.

pub mod net;
mod serving;

pub use serving::{Serving, ServingSwitch, ServingWatch};
