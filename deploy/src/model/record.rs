//! One instance, from the decision that there is to be one until nothing is left of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use discovery::registry::Key;
use serde::{Deserialize, Serialize};
use topology::{AppId, HostId, InstanceId, InstanceKey, VersionId};

use super::release::Digest;
use super::stored::{self, id};
use super::{Millis, Unreadable};
use crate::runtime::InstanceRef;

/// How far an instance is. It never goes back, but for one whose address somebody removed: that one is registered again.
///
/// ```text
/// starting → probing → registering → serving → leaving → draining → stopping → (gone)
///     └─────────┴────────────────────────────────────────────────────↗
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Host and port are claimed; the runtime may be starting it at any time.
    Starting,
    /// It runs, and is asked whether it can take requests.
    Probing,
    /// Its address is in the registry, and not every gateway has applied that.
    Registering,
    /// Every gateway may send it requests.
    Serving,
    /// Its address is out of the registry, and not every gateway has applied that.
    Leaving,
    /// No gateway sends it new requests; those under way end.
    Draining,
    /// It is asked to end, and then killed.
    Stopping,
}

impl Phase {
    /// Whether its address is in the registry, and ours: the one mark of ownership. A registration without a record in such a
    /// phase was made by somebody else.
    pub fn is_registered(self) -> bool {
        matches!(self, Self::Registering | Self::Serving)
    }

    /// Whether it goes away.
    pub fn is_ending(self) -> bool {
        self >= Self::Leaving
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Probing => "probing",
            Self::Registering => "registering",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// An instance has one record in its life, made before anything of it is and removed after everything of it. Its id is
/// nobody's before or after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(with = "id")]
    pub version: VersionId,
    pub release: Digest,
    #[serde(with = "id")]
    pub host: HostId,
    /// The port of the host is claimed.
    pub address: SocketAddr,
    pub phase: Phase,
    /// Since when it is in that phase.
    pub since: Millis,
    /// Grows with every write of the record: what [`Rollout::members`](super::Rollout::members) compares.
    pub step: u32,
    /// Why it goes.
    pub reason: Option<String>,
    /// The release whose limits it is being given where it runs.
    #[serde(default)]
    pub resizing: Option<Digest>,
    /// What it was last told of the apps that it depends on: app → release.
    #[serde(default)]
    pub told: BTreeMap<String, String>,
}

impl Record {
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Unreadable> {
        stored::read(key, value)
    }

    pub fn to_value(&self) -> bytes::Bytes {
        stored::write(self)
    }

    pub fn enter(&mut self, phase: Phase, now: Millis) {
        (self.phase, self.since) = (phase, now);
    }

    pub fn endpoint_key(&self, instance: &InstanceId) -> InstanceKey {
        InstanceKey { version: self.version.clone(), instance: instance.clone() }
    }

    pub fn reference(&self, app: &AppId, instance: &InstanceId) -> InstanceRef {
        InstanceRef { app: app.clone(), version: self.version.clone(), instance: instance.clone() }
    }
}
