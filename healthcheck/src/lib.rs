//! Can an endpoint take traffic?
//!
//! This crate decides when an endpoint is probed ([`Checker`]), what a probe's answer means
//! ([`ProbeError`]) and how many answers in a row change its state (`verdict`). The result lands in a
//! [`HealthCell`] that requests read with one atomic load. [`outlier`] decides the same from what requests
//! met, and [`adaptive`] how many an endpoint bears at a time. It refuses to know where endpoints come from, how requests are balanced over them, and how
//! figures are rendered.

pub mod adaptive;
mod cell;
pub mod outlier;
mod pace;
mod probe;
mod schedule;
pub mod sharing;
mod stats;
#[cfg(test)]
mod test_server;
mod verdict;

pub use cell::{HealthCell, HealthReport, LastError};
pub use probe::{Pass, ProbeError, ProbeResult, ProbeTls, Question, probe_once};
pub use schedule::{Bounds, Checker, OnFailing, OnTransition, ProbeTarget, ProbeWatch, Relief, Standing};
pub use stats::{ProbeStats, SharingStats};
pub use verdict::{State, Transition};
