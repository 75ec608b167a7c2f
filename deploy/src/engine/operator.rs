//! What operators may ask for: it writes what is wanted, on conditions, and says how things are. The HTTP API is a shell
//! around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use discovery::document::Mistakes;
use discovery::registry::{Expect, Key, RegistryError, Step};
use topology::{AppId, InstanceId};

use super::operations::{Accepted, Asked, Attempt};
use super::world::World;
use super::{Parts, edges};
use crate::dependencies::Cycle;
use crate::model::{Deployment, Record, Rollout, keys};
use crate::rollout::command::{self, Command, Refused};
use crate::runtime::{ExecOutcome, ExecRequest, InstanceRef, Runtime};
use crate::scheduler::{self, Verdict, Wish};

/// Attempts of a change that others overtake; each of them has let one of the others through.
pub(super) const MAX_ATTEMPTS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Each names its field and what to write.
    #[error("{0}")]
    Invalid(Mistakes),
    #[error(transparent)]
    Cycle(#[from] Cycle),
    #[error("there is no app {0}")]
    NoSuchApp(AppId),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Somebody else has changed it; nothing was written.
    #[error("{0} was changed meanwhile; look at it and decide again")]
    Changed(Key),
    #[error("{0}")]
    Config(String),
    /// The id of what it was.
    #[error("this key was used for another request, operation {0}; write a new key for every request")]
    KeyReused(String),
    #[error("{0} has no instance {1}")]
    NoSuchInstance(AppId, InstanceId),
    #[error("{0}")]
    Host(String),
    #[error(transparent)]
    Registry(RegistryError),
}

impl From<RegistryError> for OperatorError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Conflict { key, .. } => Self::Changed(key),
            other => Self::Registry(other),
        }
    }
}

#[derive(Clone)]
pub struct Operator {
    pub(super) parts: Arc<Parts>,
}

/// How an app is.
#[derive(Debug, Clone, Default)]
pub struct AppStatus {
    pub deployment: Option<Deployment>,
    /// What a conditional write of the deployment has to name.
    pub version: Option<u64>,
    pub rollout: Option<Rollout>,
    pub instances: BTreeMap<InstanceId, Record>,
    /// Why nothing starts or stops, or where an instance finds no place.
    pub waits_for: Option<String>,
    /// What instances' probes said last, where that was no good. Of this engine's own.
    pub probe_errors: BTreeMap<InstanceId, String>,
}

impl Operator {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Writes what is wanted of an app: JSON, kept as it is.
    ///
    /// # Errors
    /// [`OperatorError::Invalid`] and [`OperatorError::Cycle`] before anything is written; [`OperatorError::Changed`] where it is not
    /// as expected; [`OperatorError::KeyReused`].
    pub async fn put(
        &self,
        app: &AppId,
        json: Bytes,
        expect: Expect,
        asked: &Asked,
    ) -> Result<Accepted, OperatorError> {
        let key = keys::deployment(app);
        let deployment = Deployment::parse(&key, &json).map_err(OperatorError::Invalid)?;
        if let Some(before) = self.known(app, asked).await? {
            return Ok(before);
        }
        edges(&self.world()).with(app.clone(), deployment.depends_on).check(app)?;
        self.write(app, asked, Step { key, value: Some(json), expect }).await
    }

    /// Wants nothing of an app any more: all of it goes, last its configuration.
    ///
    /// # Errors
    /// As [`Self::put`]; [`OperatorError::NoSuchApp`].
    pub async fn delete(
        &self,
        app: &AppId,
        expect: Expect,
        asked: &Asked,
    ) -> Result<Accepted, OperatorError> {
        let key = keys::deployment(app);
        if let Some(before) = self.known(app, asked).await? {
            return Ok(before);
        }
        if self.parts.registry.read(&key).await?.is_none() {
            return Err(OperatorError::NoSuchApp(app.clone()));
        }
        self.write(app, asked, Step { key, value: None, expect }).await
    }

    /// What was asked before with the same key.
    ///
    /// # Errors
    /// [`OperatorError::KeyReused`].
    pub async fn known(&self, app: &AppId, asked: &Asked) -> Result<Option<Accepted>, OperatorError> {
        match asked.repeat {
            None => Ok(None),
            Some(_) => self.asked_before(&self.desk(app).await?, asked),
        }
    }

    async fn write(&self, app: &AppId, asked: &Asked, step: Step) -> Result<Accepted, OperatorError> {
        for _ in 0..MAX_ATTEMPTS {
            let desk = self.desk(app).await?;
            if let Some(before) = self.asked_before(&desk, asked)? {
                return Ok(before);
            }
            let attempt = self.attempt(app, desk, asked, step.value.as_deref(), vec![step.clone()]);
            match attempt.await? {
                Attempt::Done(accepted) => return Ok(accepted),
                Attempt::Conflict(key) if key == step.key => return Err(OperatorError::Changed(key)),
                Attempt::Conflict(_) => {}
            }
        }
        Err(OperatorError::Changed(keys::operations(app)))
    }

    /// Says something to an app's rollout, and returns what has become of it.
    ///
    /// # Errors
    /// [`OperatorError::Refused`], by the state as it was in the moment of writing; [`OperatorError::KeyReused`].
    pub async fn command(
        &self,
        app: &AppId,
        command: Command,
        asked: &Asked,
    ) -> Result<(Rollout, Accepted), OperatorError> {
        let key = keys::rollout(app);
        for _ in 0..MAX_ATTEMPTS {
            let desk = self.desk(app).await?;
            let before = self.asked_before(&desk, asked)?;
            let entry = self.parts.registry.read(&key).await?;
            let entry = entry.ok_or_else(|| OperatorError::NoSuchApp(app.clone()))?;
            let state = Rollout::parse(&key, &entry.value)
                .map_err(|error| OperatorError::Config(error.to_string()))?;
            if let Some(before) = before {
                return Ok((state, before));
            }
            let next = command::apply(&state, command, (self.parts.clock)())?;
            let expect = Expect::Version(entry.version);
            let step = Step { key: key.clone(), value: Some(next.to_value()), expect };
            let wanted = self.parts.registry.read(&keys::deployment(app)).await?;
            let wanted = wanted.as_ref().map(|entry| &*entry.value);
            if let Attempt::Done(accepted) = self.attempt(app, desk, asked, wanted, vec![step]).await? {
                return Ok((next, accepted));
            }
        }
        Err(OperatorError::Changed(key))
    }

    /// How an app is, as this engine's registry has it. `None`: nothing is wanted of it, and nothing is left.
    pub fn status(&self, app: &AppId) -> Option<AppStatus> {
        let world = self.world();
        let view = world.apps.get(app)?;
        // The claim on an app outlives the app for a moment.
        let is_left = view.rollout.is_some() || !view.records.is_empty() || self.written(app).is_some();
        is_left.then(|| self.status_in(&world, app))
    }

    /// The host's runtime and the instance's name there: for its output, and for what only it can tell.
    ///
    /// # Errors
    /// [`OperatorError::NoSuchInstance`]; [`OperatorError::Host`] where its host has no runtime.
    pub fn instance(
        &self,
        app: &AppId,
        instance: &InstanceId,
    ) -> Result<(Arc<dyn Runtime>, InstanceRef), OperatorError> {
        let world = self.world();
        let record = world.apps.get(app).and_then(|view| view.records.get(instance));
        let record = record.ok_or_else(|| OperatorError::NoSuchInstance(app.clone(), instance.clone()))?;
        let host = &record.value.host;
        let gone = || OperatorError::Host(format!("the host {host} was removed"));
        let found = world.hosts.get(host).ok_or_else(gone)?;
        let runtime = self.parts.hosts.runtime(host, found).map_err(OperatorError::Host)?;
        Ok((runtime, record.value.reference(app, instance)))
    }

    /// Runs an instance's `info` hook; `None`: its version has none.
    ///
    /// # Errors
    /// As [`Self::instance`], and what its runtime says.
    pub async fn info(
        &self,
        app: &AppId,
        instance: &InstanceId,
    ) -> Result<Option<ExecOutcome>, OperatorError> {
        let (runtime, id) = self.instance(app, instance)?;
        let status = self.status(app).unwrap_or_default();
        let release = status.instances.get(instance).map(|record| &record.release);
        let release = release.and_then(|digest| status.rollout.as_ref()?.release(digest));
        let Some(hook) = release.and_then(|release| release.spec.hooks.info.as_ref()) else {
            return Ok(None);
        };
        let (command, timeout) = (hook.command.clone(), hook.timeout);
        let request = ExecRequest { command, environment: BTreeMap::new(), timeout };
        let outcome = runtime.exec(&id, &request).await;
        outcome.map(Some).map_err(|error| OperatorError::Host(error.to_string()))
    }

    /// Where one more instance of what is wanted would go, and why not elsewhere.
    ///
    /// # Errors
    /// [`OperatorError::NoSuchApp`].
    pub fn explain(&self, app: &AppId) -> Result<Vec<Verdict>, OperatorError> {
        let deployment = self.status(app).and_then(|status| status.deployment);
        let deployment = deployment.ok_or_else(|| OperatorError::NoSuchApp(app.clone()))?;
        Ok(self.dry_run(app, &deployment))
    }

    /// As [`Self::explain`], for a deployment that nobody has written.
    pub fn dry_run(&self, app: &AppId, deployment: &Deployment) -> Vec<Verdict> {
        let resources = deployment.wanted().map(|spec| spec.resources).unwrap_or_default();
        let placement = &deployment.placement;
        let wish = Wish { app, resources, placement, avoid: &[], shunned_by: &[] };
        scheduler::explain(&wish, &self.parts.seats(&self.world()))
    }

    pub(super) fn world(&self) -> World {
        World::read(self.parts.registry.watch().borrow().clone())
    }
}
