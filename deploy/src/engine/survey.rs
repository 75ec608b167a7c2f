//! What is shown to operators: apps, hosts, and whether an app has become what is wanted of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use discovery::registry::{Expect, Key, Step};
use tokio::sync::broadcast;
use topology::{AppId, HostId, InstanceId};

use super::gates::{edges, start_blocked, stop_blocked};
use super::operator::{AppStatus, Operator, OperatorError};
use super::world::{AppView, World};
use super::{Event, Parts};
use crate::model::{Digest, Hold, Host, Ledger, Millis, Phase, Release, RolloutKind, Status, keys};
use crate::rollout::next_start;

/// A host, as this engine sees it.
#[derive(Debug, Clone)]
pub struct HostStatus {
    /// `None`: what stands there cannot be read; nothing is placed there.
    pub host: Option<Host>,
    /// What a conditional write has to name.
    pub version: u64,
    pub ledger: Ledger,
    pub reachable: bool,
    /// What it, or its runtime, said last.
    pub error: Option<String>,
}

/// Whether an app is what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On its way.
    Changing,
    /// Nothing happens before an operator says so: paused, or to be promoted.
    Waiting,
    /// Nothing is left to do.
    Done,
    /// It was given up, see the rollout's reason.
    GivenUp,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Changing => "changing",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether it stays so by itself.
    pub fn is_settled(self) -> bool {
        self != Self::Changing
    }
}

impl AppStatus {
    /// What stands in the registry, and nothing of what this engine has seen.
    pub(super) fn written(view: &AppView) -> Self {
        Self {
            deployment: view.deployment.clone(),
            rollout: view.rollout.as_ref().map(|rollout| rollout.value.clone()),
            instances: view.records.iter().map(|(id, record)| (id.clone(), record.value.clone())).collect(),
            ..Self::default()
        }
    }

    /// By what is wanted now, also before the engine has seen that.
    pub fn standing(&self) -> Standing {
        let Some(deployment) = &self.deployment else {
            return if self.instances.is_empty() { Standing::Done } else { Standing::Changing };
        };
        if !deployment.running {
            return if self.instances.is_empty() { Standing::Done } else { Standing::Changing };
        }
        let (Some(rollout), Some(wanted)) = (&self.rollout, self.wanted()) else { return Standing::Changing };
        if rollout.abandoned.as_ref() == Some(&wanted) {
            return match rollout.status {
                Status::RolledBack | Status::Failed => Standing::GivenUp,
                _ => Standing::Changing,
            };
        }
        if rollout.target.as_ref() != Some(&wanted) {
            return Standing::Changing;
        }
        match rollout.status {
            Status::Failed | Status::RolledBack => Standing::GivenUp,
            Status::Paused => Standing::Waiting,
            Status::Progressing
                if rollout.holding.is_some() && !rollout.promoted && self.holds_for_promotion() =>
            {
                Standing::Waiting
            }
            Status::Completed if self.is_complete(&wanted) => Standing::Done,
            _ => Standing::Changing,
        }
    }

    /// The release that is wanted.
    pub fn wanted(&self) -> Option<Digest> {
        let deployment = self.deployment.as_ref()?;
        let release = Release {
            version: deployment.version.clone(),
            config_generation: deployment.config_generation,
            spec: deployment.wanted()?.clone(),
        };
        Some(release.digest())
    }

    /// How many instances are wanted, after autoscaling and without those that policy withholds.
    pub fn count(&self) -> u32 {
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| deployment.running) else {
            return 0;
        };
        let scaled = self.rollout.as_ref().and_then(|rollout| rollout.scaled_to);
        let withheld = self.rollout.as_ref().map_or(0, |rollout| rollout.withheld);
        let wanted = match &deployment.autoscale {
            Some(policy) => scaled.unwrap_or(policy.min).clamp(policy.min, policy.max),
            None => deployment.instances,
        };
        wanted.saturating_sub(withheld)
    }

    /// Why instances are missing that policy has stopped; `None`: none is.
    pub fn withheld(&self) -> Option<String> {
        let rollout = self.rollout.as_ref().filter(|rollout| rollout.withheld > 0)?;
        let last = rollout.failures.last().map_or("", |failure| &failure.reason);
        Some(format!("{} stopped, and not replaced before it is told to retry: {last}", rollout.withheld))
    }

    fn is_complete(&self, wanted: &Digest) -> bool {
        let serves =
            |record: &crate::model::Record| record.phase == Phase::Serving && record.release == *wanted;
        let count = usize::try_from(self.count()).unwrap_or(usize::MAX);
        self.instances.len() == count && self.instances.values().all(serves)
    }

    fn holds_for_promotion(&self) -> bool {
        let (Some(deployment), Some(rollout)) = (&self.deployment, &self.rollout) else { return false };
        let hold = match &deployment.rollout.kind {
            RolloutKind::Rolling { .. } => None,
            RolloutKind::BlueGreen { before, .. } => (rollout.stage == 0).then_some(*before),
            RolloutKind::Canary { steps } => steps.get(rollout.stage as usize).map(|step| step.hold),
        };
        hold == Some(Hold::Manual)
    }
}

impl Operator {
    /// Every app that anything is known of.
    pub fn apps(&self) -> BTreeMap<AppId, AppStatus> {
        let world = self.world();
        let all = world.apps.keys().map(|app| (app.clone(), self.status_in(&world, app)));
        // What is neither wanted nor runs has left records only, such as its last rollout.
        all.filter(|(app, status)| !status.instances.is_empty() || self.written(app).is_some()).collect()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.parts.events.subscribe()
    }

    /// Returns when the registry's state is another one than it was, or was since this was made.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<discovery::registry::State> {
        self.parts.registry.watch()
    }

    /// The value of `deploy/{app}` as it was written, and its version.
    pub fn written(&self, app: &AppId) -> Option<(Bytes, u64)> {
        let state = self.parts.registry.watch();
        let state = state.borrow();
        state.entries.get(&keys::deployment(app)).map(|entry| (entry.value.clone(), entry.version))
    }

    pub fn hosts(&self) -> BTreeMap<HostId, HostStatus> {
        let world = self.world();
        let place = |(key, entry): (&Key, &discovery::registry::Entry)| {
            let mut segments = key.segments();
            let id = segments.next().filter(|family| *family == "host").and(segments.next())?;
            let id = HostId::parse(id).ok()?;
            let sighting = self.parts.sightings().hosts.get(&id).cloned().unwrap_or_default();
            let unreadable = world.unreadable.iter().find(|(at, _)| at == key).map(|(_, why)| why.clone());
            let status = HostStatus {
                host: world.hosts.get(&id).cloned(),
                version: entry.version,
                ledger: world.ledger(&id).0,
                reachable: sighting.is_reachable(),
                error: unreadable.or(sighting.error),
            };
            Some((id, status))
        };
        world.state.entries.iter().filter_map(place).collect()
    }

    /// Enters a host, or changes it.
    ///
    /// # Errors
    /// [`OperatorError::Invalid`] before anything is written; [`OperatorError::Changed`] where it is not as expected.
    pub async fn put_host(&self, id: &HostId, json: Bytes, expect: Expect) -> Result<u64, OperatorError> {
        let key = keys::host(id);
        Host::parse(&key, &json).map_err(OperatorError::Invalid)?;
        Ok(self.parts.registry.transact(&[Step { key, value: Some(json), expect }]).await?)
    }

    /// Removes a host. What ran there counts as gone: empty it first by `drained`.
    ///
    /// # Errors
    /// [`OperatorError::Changed`], where it is not as expected.
    pub async fn delete_host(&self, id: &HostId, expect: Expect) -> Result<(), OperatorError> {
        let step = Step { key: keys::host(id), value: None, expect };
        self.parts.registry.transact(&[step]).await?;
        Ok(())
    }

    pub(super) fn status_in(&self, world: &World, app: &AppId) -> AppStatus {
        let Some(view) = world.apps.get(app) else { return AppStatus::default() };
        let version = world.state.entries.get(&keys::deployment(app)).map(|entry| entry.version);
        let dependencies = edges(world);
        let blocked =
            start_blocked(world, app, &dependencies).or_else(|| stop_blocked(world, app, &dependencies));
        let unplaceable = self.parts.unplaceable().get(app).cloned();
        let told = |id: &InstanceId| probe_error(&self.parts, app, id).map(|why| (id.clone(), why));
        AppStatus {
            version,
            waits_for: blocked.or(unplaceable).or_else(|| held_back(view, (self.parts.clock)())),
            probe_errors: view.records.keys().filter_map(told).collect(),
            ..AppStatus::written(view)
        }
    }
}

/// Why nothing is started anew for now, where failures are what it waits for.
fn held_back(view: &AppView, now: Millis) -> Option<String> {
    let (deployment, rollout) = (view.deployment.as_ref()?, &view.rollout.as_ref()?.value);
    let receiving = rollout.receiving_side()?;
    let until = next_start(&rollout.failures, receiving, &deployment.restart, now)?;
    let last = rollout.failures.iter().rev().find(|failure| failure.release == *receiving)?;
    let alive = view.records.values().filter(|record| !record.value.phase.is_ending()).count();
    let wanted = rollout.scaled_to.unwrap_or(deployment.instances).saturating_sub(rollout.withheld);
    let is_short = alive < usize::try_from(wanted).unwrap_or(usize::MAX);
    (until > now && is_short).then(|| format!("starts another one after its back-off: {}", last.reason))
}

fn probe_error(parts: &Parts, app: &AppId, id: &InstanceId) -> Option<String> {
    parts.sightings().instances.get(&(app.clone(), id.clone()))?.probe_error.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deployment, Record, Rollout};

    fn status(json: &str) -> AppStatus {
        let key = keys::deployment(&AppId::parse("shop").unwrap());
        AppStatus {
            deployment: Some(Deployment::parse(&key, json.as_bytes()).unwrap()),
            ..AppStatus::default()
        }
    }

    fn record(release: &Digest, phase: Phase) -> Record {
        let value = format!(
            r#"{{"version": "v1", "release": "{release}", "host": "h1", "address": "10.0.0.1:25000", "phase": "{}",
                "since": 0, "step": 1, "reason": null}}"#,
            phase.name()
        );
        Record::parse(&Key::parse("instance/shop/c1").unwrap(), value.as_bytes()).unwrap()
    }

    fn rollout(target: &Digest, status: Status) -> Option<Rollout> {
        Some(Rollout { target: Some(target.clone()), status, ..Rollout::default() })
    }

    #[test]
    fn an_app_is_done_when_what_is_wanted_now_serves_and_nothing_else_is_left() {
        let mut status = status(r#"{"versions": {"v1": {"command": ["a"]}}}"#);
        assert_eq!(status.standing(), Standing::Changing, "the engine has not seen it");
        let wanted = status.wanted().unwrap();
        status.rollout = rollout(&wanted, Status::Completed);
        let c1 = InstanceId::parse("c1").unwrap();
        for (phase, standing) in [(Phase::Probing, Standing::Changing), (Phase::Serving, Standing::Done)] {
            status.instances = [(c1.clone(), record(&wanted, phase))].into();
            assert_eq!(status.standing(), standing, "{phase:?}");
        }
        status.deployment.as_mut().unwrap().config_generation += 1;
        assert_eq!(status.standing(), Standing::Changing, "another release is wanted");
        status.deployment = None;
        assert_eq!(status.standing(), Standing::Changing, "an instance is left");
        status.instances.clear();
        assert_eq!(status.standing(), Standing::Done);
    }

    #[test]
    fn what_waits_for_an_operator_and_what_was_given_up_is_settled() {
        let canary = r#"{"versions": {"v1": {"command": ["a"]}}, "rollout": {"kind": "canary",
            "steps": [{"share": 10, "pause": "manual"}, {"share": 50, "pause": "1m"}]}}"#;
        let mut status = status(canary);
        let wanted = status.wanted().unwrap();
        status.rollout = rollout(&wanted, Status::Progressing);
        assert_eq!(status.standing(), Standing::Changing);
        let state = status.rollout.as_mut().unwrap();
        state.holding = Some(1);
        assert_eq!(status.standing(), Standing::Waiting);
        status.rollout.as_mut().unwrap().stage = 1;
        assert_eq!(status.standing(), Standing::Changing, "time passes by itself");
        status.rollout = rollout(&wanted, Status::Paused);
        assert_eq!(status.standing(), Standing::Waiting);
        let state =
            Rollout { abandoned: Some(wanted.clone()), status: Status::RollingBack, ..Rollout::default() };
        status.rollout = Some(state);
        assert_eq!(status.standing(), Standing::Changing);
        status.rollout.as_mut().unwrap().status = Status::RolledBack;
        assert_eq!(status.standing(), Standing::GivenUp);
    }
}
