//! Virtual IPs end to end: three gateways, a registry and a client in network namespaces on a switch, and faults on whoever
//! holds. What is asserted takes no clock: never two who answer, and somebody answers again. How long that took is
//! printed.
//!
//! `SLUICE_LONG=1` repeats each fault on an ensemble of ZooKeeper and a cluster of etcd, adds the registry's own faults, strikes
//! keepalived with the same ones, and keeps the figures in benches/results:
//! `SLUICE_LONG=1 cargo test --workspace --test vip_lab -- --ignored --nocapture --test-threads 1`. `SLUICE_FAULT="silent partition"`
//! measures one.

mod clients;
mod commands;
mod faults;
mod flapping;
mod ipv6;
mod keepalived;
mod lab;
mod long;
mod report;
mod spread;
mod witness;
