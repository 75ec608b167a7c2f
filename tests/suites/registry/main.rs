//! The registry trait on every implementation: `promises.rs` holds them to the same behaviour,
//! `zookeeper.rs`, `etcd.rs` and `ensembles.rs` add what only a registry at the far end of a network can do,
//! `access.rs` who may.

#![expect(clippy::unwrap_used, reason = "every function here is a part of a test")]

mod access;
mod ensembles;
mod etcd;
mod fixture;
mod promises;
mod zookeeper;
