//! How far an app is on its way to what is wanted of it.

use std::collections::BTreeMap;

use discovery::registry::Key;
use serde::{Deserialize, Serialize};

use super::release::{Digest, Release};
use super::{Millis, Unreadable, stored};

/// How many failures are remembered; a policy's window never asks for more.
const MAX_FAILURES: usize = 200;

/// The engine's memory of an app. Every decision about it writes this document conditionally, so that decisions of several
/// engines come one after the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// Counts rollouts.
    pub number: u64,
    pub status: Status,
    /// Why it is in that state, for people.
    pub reason: Option<String>,
    /// What serves, or served last, in full: where a rollback goes.
    pub stable: Option<Digest>,
    /// Where it goes; `stable` when it has arrived.
    pub target: Option<Digest>,
    /// What was given up: it is not tried again until something else was wanted, or an operator says so.
    pub abandoned: Option<Digest>,
    /// Its stages split the traffic between two versions: there are two.
    pub staged: bool,
    pub stage: u32,
    /// The largest share of the traffic, in percent, that the target was given; and that it had when it was given up.
    pub share_reached: u16,
    pub share_left: u16,
    /// Going back failed too; it is tried on, and the state stays until it has succeeded.
    pub undo_failed: bool,
    /// The traffic's split of the stage is wanted, and not that of the one before.
    pub shifted: bool,
    /// Since when the split of the stage has been in force.
    pub holding: Option<Millis>,
    /// An operator has said that the stage's hold is over.
    pub promoted: bool,
    pub started: Millis,
    /// When it last took a step, and what was the furthest then.
    pub progressed: Millis,
    pub furthest: Progress,
    /// Of instances, newest last.
    pub failures: Vec<Failure>,
    /// What autoscaling asks for.
    pub scaled_to: Option<u32>,
    pub scaled_at: Millis,
    /// Instances to be missing until an operator says otherwise: stopped by policy.
    pub withheld: u32,
    /// The instances that there are, by id, and the step of each one's record. Where a state's records differ, the state shows
    /// one transaction in parts, and no decision is made on it.
    pub members: BTreeMap<String, u32>,
    /// What instances run, as long as any does or may.
    pub releases: Vec<Release>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing was wanted yet.
    #[default]
    Idle,
    Progressing,
    /// By an operator. Nothing is created or retired for the rollout's sake; what fails is replaced.
    Paused,
    RollingBack,
    Completed,
    RolledBack,
    /// Neither forward nor back: see the reason. What serves goes on serving, and is kept at its number.
    Failed,
}

impl Status {
    /// Whether a rollout is under way.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Progressing | Self::Paused | Self::RollingBack)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::RollingBack => "rolling_back",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }
}

/// What a rollout can have more of only so often: stage, then instances that came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Progress {
    pub stage: u32,
    pub shifted: bool,
    pub held: bool,
    pub arrived: u32,
    pub departed: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub at: Millis,
    pub release: Digest,
    pub instance: String,
    pub host: String,
    pub reason: String,
    /// Another attempt would end the same way.
    pub fatal: bool,
    /// Its host's fault, and not its release's.
    pub of_host: bool,
}

impl Rollout {
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Unreadable> {
        stored::read(key, value)
    }

    pub fn to_value(&self) -> bytes::Bytes {
        stored::write(self)
    }

    pub fn release(&self, digest: &Digest) -> Option<&Release> {
        self.releases.iter().find(|release| release.digest() == *digest)
    }

    pub fn remember(&mut self, release: &Release) {
        if !self.releases.contains(release) {
            self.releases.push(release.clone());
        }
    }

    pub fn note_failure(&mut self, failure: Failure) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
    }

    /// Whether it still tries to go back, having failed to.
    pub fn undoing(&self) -> bool {
        self.status == Status::RollingBack || (self.status == Status::Failed && self.undo_failed)
    }

    /// What the rollout that is under way brings.
    pub fn receiving_side(&self) -> Option<&Digest> {
        if self.undoing() { self.stable.as_ref() } else { self.target.as_ref() }
    }

    /// What is kept at its number where no rollout is under way.
    pub fn receiving(&self) -> Option<&Digest> {
        match self.status {
            Status::Progressing | Status::Paused | Status::Completed => self.target.as_ref(),
            Status::Idle => None,
            Status::RollingBack | Status::RolledBack | Status::Failed => self.stable.as_ref(),
        }
    }
}
