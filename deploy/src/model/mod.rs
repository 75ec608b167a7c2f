//! What is to run, what was planned, and where each stands in the registry.
//!
//! What people write ([`Deployment`], [`Host`]) is read strictly, all mistakes at once. What the engine writes
//! ([`Record`], [`Rollout`], [`Ledger`]) is its own and read as it was written. Values only: nothing here asks
//! anybody or knows the time.

mod deployment;
mod host;
pub mod keys;
mod operation;
mod placement;
mod policy;
mod probe;
mod record;
mod release;
mod rollout;
mod stored;
#[cfg(test)]
mod tests;
mod version;

pub use deployment::Deployment;
pub use host::{Host, Ledger, Share, read_ports};
pub use operation::{Operation, OperationKind, OperationResult, Operations, Outcome, Repeat, fingerprint};
pub use placement::{Placement, Strategy};
pub use policy::{
    AutoscalePolicy, Hold, Judgement, RestartPolicy, RolloutKind, RolloutPolicy, Step, UnhealthyAction,
};
pub use probe::{Probe, ProbeKind};
pub use record::{Phase, Record};
pub use release::{Digest, Release};
pub use rollout::{Failure, Progress, Rollout, Status};
pub(crate) use version::config_name;
pub use version::{Hook, Hooks, Reservation, Run, VersionSpec, VolumeSpec};

/// Milliseconds since 1970 by the clock of whoever writes. Engines compare them with their own clock, so what
/// depends on them is late or early by the difference of the clocks, and nothing else goes wrong.
pub type Millis = u64;

/// A document of ours that cannot be read: somebody else wrote it, or a later release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is none of ours: {why}")]
pub struct Unreadable {
    pub key: String,
    pub why: String,
}
