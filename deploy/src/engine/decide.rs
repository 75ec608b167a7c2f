//! One decision about one app: what becomes of its instances and its rollout, as one conditional transaction.

use std::collections::{BTreeMap, BTreeSet};

use discovery::layout::app_key;
use discovery::registry::{Expect, Step};
use discovery::secrets::Keys;
use topology::{AppId, HostId, InstanceId};

use super::meter::{Cause, Count};
use super::resize::Resized;
use super::split;
use super::world::{AppView, Versioned, World};
use crate::autoscale::{self, Load};
use crate::lifecycle::{self, HostSight, Move, Sight};
use crate::model::{
    Digest, Failure, Ledger, Millis, Phase, Record, Release, Rollout, Status, UnhealthyAction, VersionSpec,
    keys,
};
use crate::rollout::{self, Member, Plan, Situation, SplitInForce, Traffic};
use crate::scheduler::{self, Seat, Wish};

/// Instances that take a step in one decision, with up to three keys each: a transaction has at most 128.
const MAX_MOVES: usize = 24;

/// What a decision is made on.
pub(super) struct Matter<'m> {
    pub app: &'m AppId,
    pub view: &'m AppView,
    pub world: &'m World,
    pub sights: &'m BTreeMap<InstanceId, Sight>,
    pub told: &'m BTreeMap<InstanceId, BTreeMap<String, String>>,
    /// What hosts have said to other limits.
    pub resized: &'m BTreeMap<InstanceId, Resized>,
    /// What instances have to know of the apps that this one depends on.
    pub to_tell: &'m BTreeMap<String, String>,
    pub moving: &'m BTreeSet<(AppId, InstanceId)>,
    pub split: Result<SplitInForce, String>,
    pub traffic: Option<Traffic>,
    pub load: Load,
    pub start_blocked: Option<String>,
    pub stop_blocked: Option<String>,
    pub unplaceable: Option<String>,
    pub shunned_by: &'m [AppId],
    pub keys: Option<&'m Keys>,
    pub now: Millis,
}

#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Empty: nothing is to be done.
    pub steps: Vec<Step>,
    /// What happened, when it has been written: instance and text.
    pub events: Vec<(Option<InstanceId>, String)>,
    pub wake: Option<Millis>,
    /// What it comes to.
    pub counts: Vec<Count>,
    /// Of hosts, for another reason than before: so also where nothing is written.
    pub refusals: Option<Count>,
    pub unplaceable: Option<String>,
    /// Instances that cannot have other limits where they are, for want of room.
    pub unfit: Vec<(InstanceId, Resized)>,
    /// As they are once it is written.
    pub ledgers: BTreeMap<HostId, Ledger>,
}

pub(super) struct Draft<'m> {
    pub matter: &'m Matter<'m>,
    pub state: Rollout,
    pub records: BTreeMap<InstanceId, Record>,
    pub changed: BTreeSet<InstanceId>,
    pub decision: Decision,
}

/// `seats` is asked for only where something is to be placed; `lot` draws names and ports.
pub(super) fn decide(
    matter: &Matter<'_>,
    seats: impl FnOnce() -> Vec<Seat>,
    lot: &mut fastrand::Rng,
) -> Decision {
    let state = matter.view.rollout.as_ref().map(|rollout| rollout.value.clone()).unwrap_or_default();
    let records = matter.view.records.iter().map(|(id, record)| (id.clone(), record.value.clone())).collect();
    let decision = Decision { unplaceable: matter.unplaceable.clone(), ..Decision::default() };
    let mut draft = Draft { matter, state, records, changed: BTreeSet::new(), decision };
    draft.take_resized();
    draft.move_instances();
    draft.scale();
    let plan = draft.plan();
    draft.retire(&plan);
    draft.decision.wake = plan.wake;
    let before = std::mem::replace(&mut draft.state, plan.state);
    draft.tell_status(&before);
    if plan.create.is_empty() {
        draft.decision.unplaceable = None;
    } else {
        draft.create(&plan.create, seats(), lot);
    }
    draft.resize(&plan.resize, MAX_MOVES);
    draft.write_split(&plan.split);
    draft.conclude()
}

impl Draft<'_> {
    pub(super) fn spec(&self, release: &Digest) -> Option<&VersionSpec> {
        self.state.release(release).map(|release| &release.spec)
    }

    fn move_instances(&mut self) {
        let action = self
            .matter
            .view
            .deployment
            .as_ref()
            .map_or(UnhealthyAction::Restart, |deployment| deployment.restart.on_unhealthy);
        let specs: BTreeMap<Digest, VersionSpec> =
            self.state.releases.iter().map(|release| (release.digest(), release.spec.clone())).collect();
        let ids: Vec<InstanceId> = self.records.keys().cloned().collect();
        for id in ids {
            if self.changed.len() >= MAX_MOVES {
                return;
            }
            let (Some(record), Some(sight)) = (self.records.get(&id), self.matter.sights.get(&id)) else {
                continue;
            };
            // Somebody has taken the rollout's document away: what runs by it can only end.
            let Some(spec) = specs.get(&record.release) else {
                let orphaned = record.phase < Phase::Leaving;
                if orphaned {
                    self.enter(
                        &id,
                        lifecycle::way_out(record.phase),
                        Some("nobody knows its release".to_owned()),
                    );
                } else if record.phase == Phase::Stopping && sight.removed {
                    self.remove(&id);
                } else if record.phase != Phase::Stopping && sight.applied {
                    self.enter(&id, Phase::Stopping, None);
                }
                continue;
            };
            match lifecycle::next(record, spec, action, sight, self.matter.now) {
                Move::Stay => self.note_told(&id),
                Move::Remove => self.remove(&id),
                Move::Enter { phase, reason, failure, withheld } => {
                    if let Some(cause) = cause(record.phase, sight, failure.is_some()) {
                        self.decision.counts.push(Count::Failure(cause));
                    }
                    if let Some(failure) = failure {
                        self.note_failure(&id, failure);
                    }
                    self.state.withheld += u32::from(withheld);
                    self.enter(&id, phase, reason);
                }
            }
        }
    }

    fn note_told(&mut self, id: &InstanceId) {
        let Some(told) = self.matter.told.get(id) else { return };
        if let Some(record) = self.records.get_mut(id).filter(|record| record.told != *told) {
            record.told.clone_from(told);
            self.changed.insert(id.clone());
        }
    }

    fn note_failure(&mut self, id: &InstanceId, failure: lifecycle::StartFailure) {
        let Some(record) = self.records.get(id) else { return };
        self.state.note_failure(Failure {
            at: self.matter.now,
            release: record.release.clone(),
            instance: id.to_string(),
            host: record.host.to_string(),
            reason: failure.reason,
            fatal: failure.fatal,
            of_host: failure.of_host,
        });
    }

    fn enter(&mut self, id: &InstanceId, phase: Phase, reason: Option<String>) {
        let Some(record) = self.records.get_mut(id) else { return };
        let lasted = self.matter.now.saturating_sub(record.since);
        self.decision.counts.push(Count::Phase(record.phase, lasted));
        record.enter(phase, self.matter.now);
        let why = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        self.decision.events.push((Some(id.clone()), format!("{}{why}", phase.name())));
        if reason.is_some() {
            record.reason = reason;
        }
        self.changed.insert(id.clone());
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(record) = self.records.remove(id) {
            let lasted = self.matter.now.saturating_sub(record.since);
            self.decision.counts.push(Count::Phase(record.phase, lasted));
        }
        self.changed.insert(id.clone());
        self.decision.events.push((Some(id.clone()), "gone".to_owned()));
    }

    fn members(&self) -> Vec<Member> {
        let member = |(id, record): (&InstanceId, &Record)| {
            let sight = self.matter.sights.get(id);
            let fall = self.spec(&record.release).map_or(u32::MAX, |spec| spec.probe.fall);
            let well = sight.is_some_and(|sight| {
                !sight.seen.is_dead() && sight.failures < fall && sight.host == HostSight::Up
            });
            Member {
                id: id.clone(),
                version: record.version.clone(),
                release: record.release.clone(),
                phase: record.phase,
                available: record.phase == Phase::Serving && well,
                moving: self.matter.moving.contains(&(self.matter.app.clone(), id.clone())),
                unresizable: self
                    .matter
                    .resized
                    .get(id)
                    .filter(|(_, said)| said.is_err())
                    .map(|(release, _)| release.clone()),
            }
        };
        self.records.iter().map(member).collect()
    }

    fn scale(&mut self) {
        let Some(deployment) = &self.matter.view.deployment else { return };
        let Some(policy) = deployment.autoscale.as_ref().filter(|_| deployment.running) else {
            self.state.scaled_to = None;
            return;
        };
        let now = self.matter.now;
        let count = self.state.scaled_to.unwrap_or(deployment.instances);
        // During a rollout two releases bear the load, and neither says what one of them would.
        if self.state.status.is_active() {
            return;
        }
        let serving = self.members().iter().filter(|member| member.available).count() as u32;
        let scaling = autoscale::scale(policy, &self.matter.load, count, serving, self.state.scaled_at, now);
        if let Some(scaling) = scaling {
            (self.state.scaled_to, self.state.scaled_at) = (Some(scaling.count), now);
            let text = format!("scaled from {count} to {}: {}", scaling.count, scaling.reason);
            self.decision.events.push((None, text));
        }
    }

    fn plan(&self) -> Plan {
        let deployment = self.matter.view.deployment.as_ref();
        let wanted = deployment.map_or(0, |deployment| self.state.scaled_to.unwrap_or(deployment.instances));
        let unknown = SplitInForce { shares: None, applied: false };
        let members = self.members();
        rollout::plan(
            &self.state,
            &Situation {
                deployment,
                count: wanted.saturating_sub(self.state.withheld),
                members: &members,
                split: self.matter.split.as_ref().unwrap_or(&unknown),
                traffic: self.matter.traffic,
                start_blocked: self.matter.start_blocked.clone(),
                stop_blocked: self.matter.stop_blocked.clone(),
                unplaceable: self.matter.split.as_ref().err().cloned().or(self.matter.unplaceable.clone()),
                now: self.matter.now,
            },
        )
    }

    fn retire(&mut self, plan: &Plan) {
        for (id, reason) in &plan.retire {
            // Who has taken a step already takes the next one next time.
            if self.changed.len() >= MAX_MOVES || self.changed.contains(id) {
                continue;
            }
            let Some(phase) = self.records.get(id).map(|record| lifecycle::way_out(record.phase)) else {
                continue;
            };
            self.enter(id, phase, Some(reason.clone()));
        }
    }

    fn tell_status(&mut self, before: &Rollout) {
        let state = &self.state;
        let has_ended = matches!(state.status, Status::Completed | Status::RolledBack | Status::Failed);
        if before.status != state.status && has_ended {
            let kind = self.matter.view.deployment.as_ref();
            let kind = kind.map_or("none", |deployment| deployment.rollout.kind.name());
            self.decision.counts.push(Count::Rollout(kind, state.status));
        }
        if before.status != state.status || before.number != state.number || before.reason != state.reason {
            let why = state.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let text = format!("rollout {} {}{why}", state.number, state.status.name());
            self.decision.events.push((None, text));
        } else if before.stage != state.stage && state.status != Status::Idle {
            let text = format!("rollout {} reached stage {}", state.number, state.stage);
            self.decision.events.push((None, text));
        }
    }

    fn create(&mut self, create: &[(Digest, u32)], mut seats: Vec<Seat>, lot: &mut fastrand::Rng) {
        let Some(deployment) = &self.matter.view.deployment else { return };
        self.decision.unplaceable = None;
        for seat in &mut seats {
            if let Some(ledger) = self.decision.ledgers.get(&seat.id) {
                seat.ledger.clone_from(ledger);
            }
        }
        // What this decision frees is given out by the next one, when it is free.
        for (digest, number) in create {
            let Some(release) = self.state.release(digest).cloned() else { continue };
            let avoid = self.avoided(digest);
            for _ in 0..*number {
                let wish = Wish {
                    app: self.matter.app,
                    resources: release.spec.resources,
                    placement: &deployment.placement,
                    avoid: &avoid,
                    shunned_by: self.matter.shunned_by,
                };
                match scheduler::choose(&wish, &seats, lot.u64(..)) {
                    Ok(seating) => self.seat(&release, digest, &seating, &mut seats, lot),
                    Err(unplaceable) => {
                        let why = unplaceable.to_string();
                        if self.matter.unplaceable.as_ref() != Some(&why) {
                            let refusals = unplaceable.verdicts.iter().filter_map(|it| it.refusal.as_ref());
                            let codes = refusals.map(scheduler::Refusal::code).collect();
                            self.decision.refusals = Some(Count::Refusals(codes));
                        }
                        self.decision.unplaceable = Some(why);
                        return;
                    }
                }
            }
        }
    }

    /// Hosts on which one like it has failed within the policy's window.
    fn avoided(&self, release: &Digest) -> Vec<HostId> {
        let window =
            self.matter.view.deployment.as_ref().map_or(0, |deployment| {
                u64::try_from(deployment.restart.window.as_millis()).unwrap_or(u64::MAX)
            });
        let recent = self.state.failures.iter().filter(|failure| {
            failure.release == *release && failure.at.saturating_add(window) > self.matter.now
        });
        recent.filter_map(|failure| HostId::parse(&failure.host).ok()).collect()
    }

    fn seat(
        &mut self,
        release: &Release,
        digest: &Digest,
        seating: &scheduler::Seating,
        seats: &mut [Seat],
        lot: &mut fastrand::Rng,
    ) {
        let Some(seat) = seats.iter_mut().find(|seat| seat.id == seating.host) else { return };
        let Ok(id) = InstanceId::parse(&format!("{:016x}", lot.u64(..))) else { return };
        let owner = format!("{}/{id}", self.matter.app);
        seat.take(owner.clone(), release.spec.resources, seating.port);
        self.decision.ledgers.insert(seat.id.clone(), seat.ledger.clone());
        let record = Record {
            version: release.version.clone(),
            release: digest.clone(),
            host: seating.host.clone(),
            address: (seat.host.address, seating.port).into(),
            phase: Phase::Starting,
            since: self.matter.now,
            step: 0,
            reason: None,
            resizing: None,
            told: self.matter.to_tell.clone(),
        };
        self.decision.steps.push(Step {
            key: keys::port(&seating.host, seating.port),
            value: Some(owner.into()),
            expect: Expect::Absent,
        });
        self.decision
            .events
            .push((Some(id.clone()), format!("{} on {}", Phase::Starting.name(), seating.host)));
        self.records.insert(id.clone(), record);
        self.changed.insert(id);
    }

    fn write_split(&mut self, wish: &rollout::SplitWish) {
        let key = app_key(self.matter.app);
        let (spec, version) = self.matter.world.spec(self.matter.app);
        match split::write(&key, spec, wish, self.matter.keys) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let expect = version.map_or(Expect::Absent, Expect::Version);
                self.decision.events.push((None, format!("traffic split {wish:?}")));
                self.decision.steps.push(Step { key, value: Some(value), expect });
            }
            Err(why) => tracing::warn!(app = %self.matter.app, %why, "its traffic cannot be split"),
        }
    }
}

/// Why one ends that was wanted; `None`: it goes its way.
fn cause(phase: Phase, sight: &Sight, has_failed: bool) -> Option<Cause> {
    let loses_host = sight.condemned.is_some() || sight.host != HostSight::Up;
    match phase {
        Phase::Leaving | Phase::Draining | Phase::Stopping => None,
        _ if loses_host => Some(Cause::Host),
        _ if !has_failed => None,
        _ if sight.seen.is_dead() => Some(Cause::Died),
        Phase::Starting => Some(Cause::Start),
        Phase::Probing => Some(Cause::Probe),
        Phase::Registering | Phase::Serving => Some(Cause::Unhealthy),
    }
}

impl World {
    /// After a decision was written.
    pub(super) fn take_ledgers(&mut self, ledgers: BTreeMap<HostId, Ledger>, version: u64) {
        for (host, value) in ledgers {
            self.ledgers.insert(host, Versioned { value, version });
        }
    }
}
