//! The registry trait on both implementations: `promises.rs` holds them to the same behaviour,
//! `zookeeper.rs` adds what only a registry at the far end of a network can do.

#![expect(clippy::unwrap_used, reason = "every function here is a part of a test")]

mod fixture;
mod promises;
mod zookeeper;
