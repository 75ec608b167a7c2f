//! Where the topology comes from: a registry (ZooKeeper, etcd or embedded) and watched files.
//!
//! This crate decides what the sources' bytes mean, what happens when they are wrong or out of reach,
//! and how a change becomes the next [`topology::Snapshot`]. It does not know what a request is.

pub mod assemble;
pub mod change;
pub mod document;
pub mod doubt;
pub mod embedded;
pub mod etcd;
pub mod file;
pub mod layout;
pub mod registry;
pub mod remote;
pub mod saved;
pub mod secrets;
pub mod spec;
pub mod zookeeper;
