//! What one gateway says of the endpoints that it probes.
//!
//! Those that are down are named. That the others are up is said without a word for each: endpoints fall into
//! [`BUCKETS`] by name, and of every bucket the sum of all that the gateway has probed is told. Who knows which those should be comes to
//! the same sum; who does not (another set of endpoints, an address that has moved, other settings, another view of the
//! fleet) comes to another one, and does not take silence for health. So the word on six thousand endpoints is a
//! kilobyte, and a change of one is a change of one sum.

use std::collections::BTreeMap;
use std::sync::Arc;

use topology::{AppId, HealthSettings, InstanceKey};

use super::{EndpointHash, hash, mix};
use crate::ProbeTarget;

/// As many as a word has bits. More would be longer to say; fewer would have more endpoints asked twice while gateways
/// learn of a change.
pub const BUCKETS: usize = 64;

/// Endpoints that are down and named. Others are left out of the sums, so that everybody probes them.
pub const MAX_DOWN: usize = 1_000;

/// The same for the bytes of their names and errors. Written down with every byte of an error as six they fit into a value of any registry.
pub const MAX_DOWN_BYTES: usize = 128 << 10;

/// Of what is wrong with one: it is for people, and each of the others has an error of its own.
pub const MAX_WHY_BYTES: usize = 60;

/// An endpoint as it was probed: who it is, where, and what was asked. Gateways that differ in this do not believe each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    pub(crate) fn of(target: &ProbeTarget, settings: u64) -> Self {
        let InstanceKey { version, instance } = &target.key;
        let (address, protocol) = (target.address.to_string(), format!("{:?}", target.protocol));
        let tls = if target.tls.is_some() { "tls" } else { "" };
        let names = [target.app.as_str(), version.as_str(), instance.as_str(), &address, &protocol, tls];
        Self(mix(hash(&names) ^ settings))
    }

    /// What [`Self::of`] takes: of an app, and so of many endpoints.
    pub(crate) fn of_settings(settings: &HealthSettings) -> u64 {
        // By all of its fields, those too that a later version adds. Versions that print them in other ways probe twice.
        hash(&[&format!("{settings:?}")])
    }
}

/// Of an endpoint that is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    pub app: AppId,
    pub key: InstanceKey,
    pub print: Fingerprint,
    /// The last error, at most [`MAX_WHY_BYTES`] long.
    pub why: Arc<str>,
}

impl Down {
    pub(crate) fn bytes(&self) -> usize {
        let InstanceKey { version, instance } = &self.key;
        [self.app.as_str(), version.as_str(), instance.as_str(), &*self.why]
            .iter()
            .map(|text| text.len())
            .sum()
    }
}

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    /// By bucket: the sum of those that it has probed, up or down.
    pub sums: [u64; BUCKETS],
    pub down: BTreeMap<EndpointHash, Down>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { sums: [0; BUCKETS], down: BTreeMap::new() }
    }
}

impl Verdicts {
    /// A bit for every bucket in which `other` says something else.
    pub(super) fn differences(&self, other: &Self) -> u64 {
        let sums = self.sums.iter().zip(&other.sums).enumerate();
        let mut buckets = sums.filter(|(_, (one, other))| one != other).fold(0, |all, (at, _)| all | 1 << at);
        let differs = |one: &Self, two: &Self| {
            let changed = one.down.iter().filter(|(endpoint, down)| two.down.get(endpoint) != Some(*down));
            changed.fold(0, |all, (endpoint, _)| all | 1 << endpoint.bucket())
        };
        buckets |= differs(self, other) | differs(other, self);
        buckets
    }
}

impl EndpointHash {
    pub(crate) fn bucket(self) -> usize {
        (mix(self.0) % BUCKETS as u64) as usize
    }
}

/// One endpoint's part of a sum.
pub(crate) fn part(print: Fingerprint) -> u64 {
    mix(print.0)
}

/// As long as it may be told.
pub fn short(why: &str) -> Arc<str> {
    why[..why.floor_char_boundary(MAX_WHY_BYTES)].into()
}
