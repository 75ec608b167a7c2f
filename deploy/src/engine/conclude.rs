//! A decision as one conditional transaction: records, addresses, ports, ledgers, and the state of it all.

use discovery::layout::{EndpointRegistration, address_key, address_value};
use discovery::registry::{Expect, Step};
use topology::{HostId, InstanceId, Protocol};

use super::decide::{Decision, Draft};
use super::world::World;
use crate::model::{Ledger, Phase, Record, Rollout, keys};

impl Draft<'_> {
    pub(super) fn conclude(mut self) -> Decision {
        for id in std::mem::take(&mut self.changed) {
            self.write_instance(&id);
        }
        self.write_ledgers();
        let members = self.records.iter().map(|(id, record)| (id.to_string(), record.step));
        self.state.members = members.collect();
        self.write_state();
        self.decision
    }

    fn write_instance(&mut self, id: &InstanceId) {
        let app = self.matter.app;
        let before = self.matter.view.records.get(id);
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        let key = keys::instance(app, id);
        let Some(record) = self.records.get_mut(id) else {
            let Some(before) = before else { return };
            self.decision.steps.push(Step { key, value: None, expect });
            return self.free(id, &before.value);
        };
        record.step += 1;
        let step = Step { key, value: Some(record.to_value()), expect };
        let (was, is) = (before.map(|before| before.value.phase), record.phase);
        let address = match (was, is) {
            (Some(Phase::Registering | Phase::Serving), Phase::Leaving) => {
                let present = self.matter.world.address(app, id, record);
                Some((None, present.map_or(Expect::Absent, Expect::Version)))
            }
            (Some(Phase::Probing | Phase::Registering | Phase::Serving), Phase::Registering) => {
                let value = address_value(&registration(self.matter.world, record, &self.state));
                Some((Some(value), Expect::Absent))
            }
            _ => None,
        };
        let key = address_key(app, &record.version, id);
        self.decision.steps.push(step);
        self.decision.steps.extend(address.map(|(value, expect)| Step { key, value, expect }));
    }

    /// Port and ledger entry.
    fn free(&mut self, id: &InstanceId, record: &Record) {
        let owner = format!("{}/{id}", self.matter.app);
        let port = record.address.port();
        if let Some(claim) = self.matter.world.ports.get(&(record.host.clone(), port))
            && claim.value == owner
        {
            let expect = Expect::Version(claim.version);
            self.decision.steps.push(Step { key: keys::port(&record.host, port), value: None, expect });
        }
        self.ledger(&record.host).given.remove(&owner);
    }

    /// As it is once the decision is written.
    pub(super) fn ledger(&mut self, host: &HostId) -> &mut Ledger {
        let known = || self.matter.world.ledger(host).0;
        self.decision.ledgers.entry(host.clone()).or_insert_with(known)
    }

    fn write_ledgers(&mut self) {
        for (host, ledger) in &self.decision.ledgers {
            let (_, version) = self.matter.world.ledger(host);
            let expect = version.map_or(Expect::Absent, Expect::Version);
            let keep = !ledger.given.is_empty() || self.matter.world.hosts.contains_key(host);
            if !keep && version.is_none() {
                continue;
            }
            let value = keep.then(|| ledger.to_value());
            self.decision.steps.push(Step { key: keys::allocation(host), value, expect });
        }
    }

    /// With every decision, so that decisions come one after the other.
    fn write_state(&mut self) {
        let key = keys::rollout(self.matter.app);
        let before = self.matter.view.rollout.as_ref();
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        if self.matter.view.deployment.is_none() && self.records.is_empty() {
            if before.is_some() {
                self.decision.steps.push(Step { key, value: None, expect });
                let config = keys::config(self.matter.app);
                self.decision.steps.push(Step { key: config, value: None, expect: Expect::Any });
            }
            return;
        }
        let same = before.is_some_and(|before| before.value == self.state);
        if !same || !self.decision.steps.is_empty() {
            self.decision.steps.push(Step { key, value: Some(self.state.to_value()), expect });
        }
    }
}

fn registration(world: &World, record: &Record, state: &Rollout) -> EndpointRegistration {
    let protocol = state.release(&record.release).map_or("http1", |release| release.spec.protocol.as_str());
    let zone = world.hosts.get(&record.host).and_then(|host| host.labels.get("zone"));
    EndpointRegistration {
        protocol: match protocol {
            "h2" => Protocol::Http2,
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => Protocol::Http1,
        },
        zone: zone.map(|zone| zone.as_str().into()),
        ..EndpointRegistration::at(record.address)
    }
}
