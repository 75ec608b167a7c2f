//! What an engine sees: of an app's instances, of hosts, and of who has to move.

use std::collections::{BTreeMap, BTreeSet};

use topology::{AppId, HostId, InstanceId};

use super::resize::Resized;
use super::sights::{self, Sighting, Sightings};
use super::world::{AppView, World};
use super::{Engine, Parts};
use crate::lifecycle::{HostSight, Sight};
use crate::model::{Host, Millis, Record, keys};
use crate::reconcile::{Placed, Relocations, relocate};
use crate::scheduler::Seat;

/// What is seen of an app's instances, what they were told, and what their hosts said to other limits.
pub(super) type Views = (
    BTreeMap<InstanceId, Sight>,
    BTreeMap<InstanceId, BTreeMap<String, String>>,
    BTreeMap<InstanceId, Resized>,
);

impl Engine {
    pub(super) fn sights(
        &self,
        world: &World,
        app: &AppId,
        view: &AppView,
        relocations: &Relocations,
        now: Millis,
    ) -> Views {
        let sightings = self.parts.sightings();
        let (mut sights, mut all_told, mut resized) = Views::default();
        for (id, record) in &view.records {
            let name = (app.clone(), id.clone());
            let sighting = sightings.instances.get(&name).cloned().unwrap_or_default();
            let condemned = relocations.condemned.contains(&name);
            let host = self.parts.host_sight(world, &sightings, &record.value.host, now);
            all_told.extend(sighting.told.clone().map(|told| (id.clone(), told)));
            resized.extend(sighting.resized.clone().map(|said| (id.clone(), said)));
            let sight = Sight {
                host,
                address_present: world.address(app, id, &record.value).is_some(),
                // The address was written, or removed, in the transaction that began the phase.
                applied: self.parts.gateways.has_applied(record.version),
                condemned: condemned.then(|| format!("its host {} is lost", record.value.host)),
                complaint: self.parts.gateways.complaint(app, &record.value.endpoint_key(id)),
                ..seen(sighting, view, &record.value)
            };
            sights.insert(id.clone(), sight);
        }
        (sights, all_told, resized)
    }

    pub(super) fn relocations(&self, world: &World, now: Millis) -> Relocations {
        let sightings = self.parts.sightings();
        let mut placed = Vec::new();
        for (app, view) in &world.apps {
            for (id, record) in &view.records {
                let host = &record.value.host;
                placed.push(Placed {
                    app: app.clone(),
                    instance: id.clone(),
                    phase: record.value.phase,
                    lost: self.parts.host_sight(world, &sightings, host, now) == HostSight::Lost,
                    drained: world.hosts.get(host).is_some_and(|host| host.drained),
                });
            }
        }
        relocate(&placed, self.parts.settings.moved_percent)
    }
}

impl Parts {
    pub(super) fn host_sight(
        &self,
        world: &World,
        sightings: &Sightings,
        id: &HostId,
        now: Millis,
    ) -> HostSight {
        // A host that cannot be read has not been removed.
        if !world.state.entries.contains_key(&keys::host(id)) {
            return HostSight::Gone;
        }
        let lost = sightings.hosts.get(id).is_some_and(|host| host.is_lost(self.settings.lost_after, now));
        if lost { HostSight::Lost } else { HostSight::Up }
    }

    pub(super) fn seats(&self, world: &World) -> Vec<Seat> {
        let sightings = self.sightings();
        let seat = |(id, host): (&HostId, &Host)| {
            let sighting = sightings.hosts.get(id);
            let (ledger, _) = world.ledger(id);
            let of_host = (id.clone(), 0)..=(id.clone(), u16::MAX);
            let claimed: BTreeSet<u16> = world.ports.range(of_host).map(|((_, port), _)| *port).collect();
            Seat {
                id: id.clone(),
                host: host.clone(),
                ledger,
                reachable: sighting.is_some_and(sights::HostSighting::is_reachable),
                load: sighting.and_then(|sighting| sighting.load),
                foreign_ports: claimed,
            }
        };
        world.hosts.iter().map(seat).collect()
    }
}

fn seen(sighting: Sighting, view: &AppView, record: &Record) -> Sight {
    let release = view.rollout.as_ref().and_then(|rollout| rollout.value.release(&record.release));
    let has_hook = release.is_some_and(|release| release.spec.hooks.status.is_some());
    Sight {
        start: sighting.start,
        seen: sighting.seen,
        passes: sighting.passes,
        failures: sighting.failures,
        probe_error: sighting.probe_error,
        status_passed: sighting.status_passed || !has_hook,
        in_flight: sighting.in_flight,
        removed: sighting.removed,
        ..Sight::default()
    }
}
