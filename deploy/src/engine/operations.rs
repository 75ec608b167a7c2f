//! What was asked of an app, beside what it asked for: in one transaction, so that nobody who asks again does anything twice,
//! whichever deploy API is asked and whoever died meanwhile.

use discovery::registry::{Expect, Key, RegistryError, Step};
use topology::AppId;

use super::operator::{AppStatus, Operator, OperatorError};
use super::survey::Standing;
use super::world::World;
use super::{Engine, Parts};
use crate::model::{
    Millis, Operation, OperationKind, OperationResult, Operations, Outcome, Repeat, Status, fingerprint, keys,
};

/// A state that shows a transaction in parts is whole by then: before it nothing is concluded of what was just asked.
const SETTLES_AFTER: Millis = 1_000;
/// Apps of which nothing is left but what was asked of them.
const MAX_GONE: usize = 1_000;

/// A request, as it is known again.
#[derive(Debug, Clone)]
pub struct Asked {
    pub kind: OperationKind,
    pub by: String,
    pub repeat: Option<Repeat>,
}

impl Asked {
    /// Of somebody who will not ask again.
    pub fn once(kind: OperationKind, by: &str) -> Self {
        Self { kind, by: by.to_owned(), repeat: None }
    }
}

/// What has come of it.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub operation: Operation,
    /// Of the registry, with the change; `None`: it was asked before, and nothing was written now.
    pub version: Option<u64>,
}

/// How an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationState {
    /// On its way; what it waits for.
    Running(Option<String>),
    /// For an operator.
    Waiting(Option<String>),
    Over(Outcome),
}

/// What an app's operations are, to be written with what is asked.
pub(super) struct Desk {
    key: Key,
    version: Option<u64>,
    known: Operations,
}

pub(super) enum Attempt {
    Done(Accepted),
    /// Others have changed this key; nothing was written.
    Conflict(Key),
}

impl Operator {
    /// What was asked of an app last, oldest first.
    pub fn operations(&self, app: &AppId) -> Vec<(Operation, OperationState)> {
        let world = self.world();
        let Some(operations) = world.operations.get(app) else { return Vec::new() };
        let status = self.status_in(&world, app);
        let wanted = wanted(&world, app);
        let now = (self.parts.clock)();
        let state = |operation: &Operation| state(operation, &status, wanted.as_deref(), now);
        operations.value.list.iter().map(|operation| (operation.clone(), state(operation))).collect()
    }

    pub(super) async fn desk(&self, app: &AppId) -> Result<Desk, OperatorError> {
        let key = keys::operations(app);
        let entry = self.parts.registry.read(&key).await?;
        let known = entry.as_ref().map(|entry| Operations::parse(&key, &entry.value));
        let known = known.transpose().unwrap_or_else(|error| {
            tracing::warn!(%app, %error, "what was asked of it is forgotten");
            None
        });
        Ok(Desk { key, version: entry.map(|entry| entry.version), known: known.unwrap_or_default() })
    }

    /// Looks for what was asked before with the same key.
    ///
    /// # Errors
    /// [`OperatorError::KeyReused`].
    pub(super) fn asked_before(&self, desk: &Desk, asked: &Asked) -> Result<Option<Accepted>, OperatorError> {
        let Some(repeat) = &asked.repeat else { return Ok(None) };
        match desk.known.repeated(repeat, (self.parts.clock)()) {
            None => Ok(None),
            Some(before) if before.repeat.as_ref() == Some(repeat) => {
                Ok(Some(Accepted { operation: before.clone(), version: None }))
            }
            Some(before) => Err(OperatorError::KeyReused(before.id.clone())),
        }
    }

    /// Writes `steps` and that they were asked for. `written` is what is wanted of the app then, as bytes.
    pub(super) async fn attempt(
        &self,
        app: &AppId,
        mut desk: Desk,
        asked: &Asked,
        written: Option<&[u8]>,
        mut steps: Vec<Step>,
    ) -> Result<Attempt, OperatorError> {
        let now = (self.parts.clock)();
        let wanted = written.map(|value| fingerprint(&[value]));
        self.settle_former(app, &mut desk.known, wanted.as_deref(), now);
        let is_over = asked.kind == OperationKind::Pause;
        let operation = Operation {
            id: format!("{:016x}", fastrand::u64(..)),
            kind: asked.kind,
            at: now,
            by: asked.by.clone(),
            repeat: asked.repeat.clone(),
            wanted,
            outcome: is_over.then(|| outcome(OperationResult::Done, None, now)),
        };
        desk.known.push(operation.clone());
        let expect = desk.version.map_or(Expect::Absent, Expect::Version);
        steps.push(Step { key: desk.key, value: Some(desk.known.to_value()), expect });
        match self.parts.registry.transact(&steps).await {
            Ok(version) => {
                self.parts.meter.asked(asked.kind);
                Ok(Attempt::Done(Accepted { operation, version: Some(version) }))
            }
            Err(RegistryError::Conflict { key, .. }) => Ok(Attempt::Conflict(key)),
            Err(error) => Err(error.into()),
        }
    }

    /// Those that are over by what is known now, or by what is asked for next.
    fn settle_former(&self, app: &AppId, known: &mut Operations, next: Option<&str>, now: Millis) {
        let world = self.world();
        let status = self.status_in(&world, app);
        let present = wanted(&world, app);
        for operation in known.list.iter_mut().filter(|operation| operation.outcome.is_none()) {
            let state = state(operation, &status, present.as_deref(), now);
            operation.outcome = match state {
                OperationState::Over(outcome) => Some(outcome),
                _ if operation.wanted.as_deref() != next => {
                    Some(outcome(OperationResult::Overtaken, Some("something else was asked for"), now))
                }
                _ => None,
            };
        }
    }
}

impl Engine {
    /// Writes down what has become of operations, and forgets those of apps that are gone.
    pub(super) async fn settle_operations(&self, world: &World, now: Millis) {
        for (app, operations) in &world.operations {
            if operations.value.pending().next().is_none() || !self.parts.works_on(world, app) {
                continue;
            }
            let status = self.operator().status_in(world, app);
            let wanted = wanted(world, app);
            let mut next = operations.value.clone();
            let mut over = Vec::new();
            for operation in next.list.iter_mut().filter(|operation| operation.outcome.is_none()) {
                if let OperationState::Over(outcome) = state(operation, &status, wanted.as_deref(), now) {
                    over.push((operation.kind, operation.id.clone(), outcome.clone()));
                    operation.outcome = Some(outcome);
                }
            }
            if over.is_empty() {
                continue;
            }
            let expect = Expect::Version(operations.version);
            let step = Step { key: keys::operations(app), value: Some(next.to_value()), expect };
            if let Err(error) = self.parts.registry.transact(&[step]).await {
                tracing::debug!(%app, %error, "its operations are looked at again");
                continue;
            }
            for (kind, id, outcome) in over {
                self.parts.meter.ended(kind, outcome.result);
                let why = outcome.reason.map_or(String::new(), |why| format!(": {why}"));
                let text = format!("operation {id} ({}) {}{why}", kind.name(), outcome.result.name());
                self.parts.announce(app, None, text, now);
            }
        }
    }

    pub(super) async fn forget_operations(&self, world: &World, now: Millis) {
        let is_gone = |app: &AppId| {
            world.apps.get(app).is_none_or(|view| {
                view.deployment.is_none() && view.rollout.is_none() && view.records.is_empty()
            })
        };
        let mut gone: Vec<_> = world.operations.iter().filter(|(app, _)| is_gone(app)).collect();
        gone.sort_by_key(|(_, operations)| operations.value.list.last().map(|last| last.at));
        let over = gone.len().saturating_sub(MAX_GONE);
        let old = |at: usize, operations: &Operations| at < over || operations.is_old(now);
        for (_, (app, operations)) in
            gone.iter().enumerate().filter(|(at, (_, operations))| old(*at, &operations.value))
        {
            let expect = Expect::Version(operations.version);
            let step = Step { key: keys::operations(app), value: None, expect };
            if let Err(error) = self.parts.registry.transact(&[step]).await {
                tracing::debug!(%app, %error, "its operations are forgotten later");
            }
        }
    }
}

impl Parts {
    /// Whether its claim is ours, or it needs none.
    fn works_on(&self, world: &World, app: &AppId) -> bool {
        world.apps.get(app).is_none_or(|view| view.claim.as_ref() == Some(&self.name))
    }
}

fn wanted(world: &World, app: &AppId) -> Option<String> {
    let entry = world.state.entries.get(&keys::deployment(app))?;
    Some(fingerprint(&[&entry.value]))
}

fn outcome(result: OperationResult, reason: Option<&str>, at: Millis) -> Outcome {
    Outcome { result, reason: reason.map(str::to_owned), at }
}

/// `wanted` is the fingerprint of what is wanted now.
fn state(operation: &Operation, status: &AppStatus, wanted: Option<&str>, now: Millis) -> OperationState {
    use OperationState::{Over, Running, Waiting};
    if let Some(outcome) = &operation.outcome {
        return Over(outcome.clone());
    }
    if now.saturating_sub(operation.at) < SETTLES_AFTER {
        return Running(status.waits_for.clone());
    }
    if operation.wanted.as_deref() != wanted {
        let why = "something else is wanted of the app now";
        return Over(outcome(OperationResult::Overtaken, Some(why), now));
    }
    let rollout = status.rollout.as_ref();
    let said = rollout.and_then(|rollout| rollout.reason.as_deref());
    match status.standing() {
        Standing::Done => Over(outcome(OperationResult::Done, None, now)),
        // That is what was asked for.
        Standing::GivenUp
            if operation.kind == OperationKind::Undo
                && rollout.is_some_and(|rollout| rollout.status == Status::RolledBack) =>
        {
            Over(outcome(OperationResult::Done, None, now))
        }
        Standing::GivenUp => Over(outcome(OperationResult::Failed, said, now)),
        Standing::Waiting => Waiting(said.map(str::to_owned)),
        Standing::Changing => Running(status.waits_for.clone().or_else(|| said.map(str::to_owned))),
    }
}

impl OperationState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running(_) => "running",
            Self::Waiting(_) => "waiting",
            Self::Over(outcome) => outcome.result.name(),
        }
    }

    /// Whether nothing comes of waiting longer.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Running(_))
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Running(why) | Self::Waiting(why) => why.as_deref(),
            Self::Over(outcome) => outcome.reason.as_deref(),
        }
    }
}
