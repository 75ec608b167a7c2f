//! What this engine has seen of instances and hosts. Lost with the process, and seen again by the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use topology::{AppId, HostId, InstanceId, VersionId};

use super::cpu::CpuSight;
use super::resize::Resized;
use super::world::World;
use crate::lifecycle::{Seen, StartFailure};
use crate::model::{Digest, Millis, Phase};
use crate::runtime::{InstanceState, InstanceStatus};

#[derive(Default)]
pub(super) struct Sightings {
    pub instances: BTreeMap<(AppId, InstanceId), Sighting>,
    pub hosts: BTreeMap<HostId, HostSighting>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sighting {
    pub phase: Option<Phase>,
    pub host: Option<HostId>,
    pub version: Option<VersionId>,
    /// When this engine first saw it in its phase.
    pub since: Millis,
    pub start: Option<Result<(), StartFailure>>,
    pub seen: Seen,
    pub passes: u32,
    pub failures: u32,
    pub probe_error: Option<String>,
    pub status_passed: bool,
    pub stop_hook_ran: bool,
    pub in_flight: Option<u64>,
    pub removed: bool,
    /// What its host said to other limits.
    pub resized: Option<Resized>,
    /// What it uses of its processors.
    pub cpu: CpuSight,
    /// What the app's instance was told of its dependencies.
    pub told: Option<BTreeMap<String, String>>,
    /// Something is being done to it: one thing at a time.
    pub is_busy: bool,
    /// Not before.
    pub due: Millis,
    pub tries: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct HostSighting {
    /// Since when it has not answered; `None` also before it was asked.
    pub silent_since: Option<Millis>,
    pub has_answered: bool,
    pub error: Option<String>,
    /// Runnable tasks per processor, in thousandths.
    pub load: Option<u32>,
    /// What runs there without a record, and since when that is known.
    pub orphans: BTreeMap<String, Millis>,
    pub is_busy: bool,
    pub due: Millis,
}

impl HostSighting {
    pub(super) fn is_reachable(&self) -> bool {
        self.has_answered && self.silent_since.is_none()
    }

    pub(super) fn is_lost(&self, after: Duration, now: Millis) -> bool {
        self.silent_since.is_some_and(|since| u128::from(now.saturating_sub(since)) >= after.as_millis())
    }
}

impl Sightings {
    /// Forgets what is gone, and begins anew what is in another phase.
    pub(super) fn follow(&mut self, world: &World, now: Millis) {
        self.hosts.retain(|host, _| world.hosts.contains_key(host));
        for host in world.hosts.keys() {
            self.hosts.entry(host.clone()).or_default();
        }
        let known = |(app, instance): &(AppId, InstanceId)| {
            world.apps.get(app).is_some_and(|view| view.records.contains_key(instance))
        };
        self.instances.retain(|name, _| known(name));
        for (app, view) in &world.apps {
            for (instance, record) in &view.records {
                let sighting = self.instances.entry((app.clone(), instance.clone())).or_default();
                if sighting.phase != Some(record.value.phase) {
                    sighting.enter(record.value.phase, now);
                }
                sighting.host = Some(record.value.host.clone());
                if sighting.version.is_none() {
                    sighting.version = Some(record.value.version.clone());
                }
                sighting.cpu.follow(view, &record.value);
            }
        }
    }

    /// Takes in what a host has listed, asked at `began`.
    pub(super) fn listed(&mut self, host: &HostId, began: Millis, list: &[InstanceStatus]) {
        let mine = self.instances.iter_mut().filter(|(_, sighting)| sighting.host.as_ref() == Some(host));
        for ((app, instance), sighting) in mine {
            let status = list.iter().find(|status| status.id.app == *app && status.id.instance == *instance);
            let seen = match status {
                Some(status) if status.state.has_ended() => Seen::Ended(status.reason.clone()),
                Some(status) if status.state == InstanceState::Running => Seen::Running,
                Some(_) => continue,
                // It may have come after the host was asked.
                None if sighting.phase == Some(Phase::Starting) || sighting.since >= began => continue,
                None => Seen::Absent,
            };
            sighting.seen = seen;
        }
    }
}

impl Sighting {
    fn enter(&mut self, phase: Phase, now: Millis) {
        let is_new = self.phase.is_none();
        (self.phase, self.since, self.due, self.tries) = (Some(phase), now, now, 0);
        (self.in_flight, self.removed) = (None, false);
        if phase == Phase::Probing || is_new {
            (self.passes, self.failures, self.probe_error, self.status_passed) = (0, 0, None, false);
        }
    }

    pub(super) fn was_resized_to(&self, release: &Digest) -> bool {
        self.resized.as_ref().is_some_and(|(to, _)| to == release)
    }

    /// One more attempt came to nothing; the next one is later than the last.
    pub(super) fn back_off(&mut self, now: Millis) {
        self.tries = self.tries.saturating_add(1);
        self.due = now + (500 << self.tries.min(6));
    }
}
