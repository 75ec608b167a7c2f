//! Virtual IPs: what the crate `vip` needs of the rest of the gateway.

mod lease;

pub use lease::RegistryLease;
