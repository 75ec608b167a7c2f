//! How a request travels, and the composition root: the `sluice` binary.
//!
//! Start with [`proxy`] for the life of a request and with [`control`] for the life of a change;
//! [`app`] wires them together.

pub mod access_log;
pub mod admin;
pub mod app;
pub mod balance;
pub mod config;
pub mod control;
pub mod deploy_api;
pub mod dns;
pub mod filter;
pub mod handover;
pub mod listener;
mod listeners;
mod memory;
pub mod message;
pub mod metrics;
mod observing;
pub mod ports;
pub mod proxy;
pub mod reason;
mod reload;
pub mod serve;
mod shutdown;
pub mod statistics;
pub mod supervise;
pub mod table;
pub mod trace;
pub mod vips;
pub mod worker;
