//! Instances as containers of a Docker Engine, here or elsewhere.
//!
//! An instance is a container whose name follows from whose it is and which one: the engine takes a
//! name once, so that of two that start an instance one makes it and the other finds it. Everything
//! that we must know of it later is in its labels.

mod create;
mod fault;
mod status;
mod stream;
mod tar;
mod transport;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, ListContainersOptions, RemoveContainerOptions, StatsOptions,
    StopContainerOptions, UploadToContainerOptions, WaitContainerOptions,
};
use futures::{StreamExt, TryStreamExt, stream as streams};
use tokio::sync::OnceCell;

use super::process::Memory;
use super::{
    ExecOutcome, ExecRequest, Fault, HostFacts, Image, InstanceRef, InstanceSpec, InstanceState,
    InstanceStatus, LogLines, LogRequest, Resources, Runtime, RuntimeError, unique_name,
};
use fault::{Asked, runtime_error};
pub use transport::Endpoint;

/// Engines answer within milliseconds; on a busy disk, making a container takes seconds.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// An image of some gigabytes over a slow line.
pub const PULL_DEADLINE: Duration = Duration::from_secs(900);
/// Containers asked about at once: an engine answers no faster for more.
const INSPECTED_AT_ONCE: usize = 8;
/// Between two looks at a container that is being removed by somebody else.
const REMOVAL_POLL: Duration = Duration::from_millis(50);

/// What a Docker runtime is made with.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// How errors and logs call the host.
    pub host: Arc<str>,
    pub endpoint: Endpoint,
    /// Whose instances: containers with another owner's label are never touched.
    pub owner: String,
    pub logins: Vec<RegistryLogin>,
    /// Default: [`CALL_DEADLINE`].
    pub call_deadline: Duration,
    /// Default: [`PULL_DEADLINE`].
    pub pull_deadline: Duration,
}

/// Credentials for an image registry.
#[derive(Clone)]
pub struct RegistryLogin {
    /// Host and port, as image names have it.
    pub registry: String,
    pub username: String,
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.username, self.registry)
    }
}

/// One Docker Engine.
#[derive(Debug)]
pub struct DockerRuntime {
    config: DockerConfig,
    client: Docker,
    /// With the version of the API that both sides know.
    negotiated: OnceCell<Docker>,
}

impl DockerRuntime {
    /// Reads certificates; connects to nothing yet.
    ///
    /// # Errors
    /// When a certificate or key cannot be read, with its file.
    pub fn new(config: DockerConfig) -> io::Result<Self> {
        let client = config.endpoint.client()?;
        Ok(Self { config, client, negotiated: OnceCell::new() })
    }

    /// Asks the engine which version of the API it has, the first time.
    async fn client(&self) -> Result<&Docker, RuntimeError> {
        let negotiate = || self.call("ask for the engine's version", self.client.clone().negotiate_version());
        self.negotiated.get_or_try_init(negotiate).await
    }

    fn name(&self, id: &InstanceRef) -> String {
        format!("sluice-{}", unique_name(&self.config.owner, id))
    }

    fn error(&self, fault: Fault, doing: &str, reason: &str) -> RuntimeError {
        let (host, doing) = (self.config.host.clone(), doing.to_owned());
        let reason = fault::printable(reason);
        RuntimeError { fault, doing, host, reason, may_have_happened: false, source: None }
    }

    async fn call<T>(
        &self,
        doing: &str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        self.call_within(self.config.call_deadline, doing, Asked::Other, asked).await
    }

    async fn call_within<T>(
        &self,
        deadline: Duration,
        doing: &str,
        kind: Asked,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        // On the heap: what the library makes of a request is large.
        match tokio::time::timeout(deadline, Box::pin(asked)).await {
            Ok(answered) => answered.map_err(|error| runtime_error(&self.config.host, doing, kind, error)),
            Err(_elapsed) => {
                let reason = format!("the engine did not answer within {deadline:?}: it may hang");
                Err(RuntimeError { may_have_happened: true, ..self.error(Fault::Timeout, doing, &reason) })
            }
        }
    }

    /// `None`: there is no such container.
    async fn find(
        &self,
        id: &InstanceRef,
        doing: &str,
    ) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let client = self.client().await?;
        let name = self.name(id);
        let found = match self.call(doing, client.inspect_container(&name, None)).await {
            Err(error) if error.fault == Fault::NoSuchInstance => return Ok(None),
            found => found?,
        };
        let labels = status::labels(&found);
        if labels.get(create::LABEL_OWNER) == Some(&self.config.owner)
            && status::id(&labels).as_ref() == Some(id)
        {
            return Ok(Some(found));
        }
        let reason = format!("a container that is not ours has the name {name}; remove or rename it");
        Err(self.error(Fault::Conflict, doing, &reason))
    }

    async fn running(&self, id: &InstanceRef, doing: &str) -> Result<(), RuntimeError> {
        let found = self.find(id, doing).await?;
        let Some(found) = found else {
            return Err(self.error(Fault::NoSuchInstance, doing, "there is no such container"));
        };
        match status::status(id, &found).state {
            InstanceState::Running => Ok(()),
            _ => Err(self.error(Fault::NotRunning, doing, "its container does not run")),
        }
    }

    async fn create(&self, spec: &InstanceSpec, doing: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let options =
            CreateContainerOptions { name: Some(self.name(&spec.id)), ..CreateContainerOptions::default() };
        let create = || {
            let body = create::container(spec, &self.config.owner);
            self.call(doing, client.create_container(Some(options.clone()), body))
        };
        let created = match (create().await, &spec.image) {
            (Err(error), Some(image)) if error.fault == Fault::ImageNotFound => {
                self.pull(image, doing).await?;
                create().await?
            }
            (created, _) => created?,
        };
        for warning in created.warnings {
            tracing::warn!(host = %self.config.host, instance = %spec.id, warning = %fault::printable(&warning), "from the engine");
        }
        Ok(())
    }

    async fn pull(&self, image: &Image, doing: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let reference = image.reference();
        let doing = format!("{doing}: pull {}", fault::printable(&reference));
        let options = CreateImageOptions { from_image: Some(reference), ..CreateImageOptions::default() };
        let login = self.config.logins.iter().find(|login| Some(&login.registry) == image.registry.as_ref());
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.clone()),
            serveraddress: Some(login.registry.clone()),
            ..DockerCredentials::default()
        });
        let progress = client.create_image(Some(options), None, credentials);
        let pulled = progress.try_for_each(|_step| std::future::ready(Ok(())));
        self.call_within(self.config.pull_deadline, &doing, Asked::Pull, pulled).await
    }

    /// From a made container to a running one.
    async fn launch(&self, spec: &InstanceSpec, doing: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let name = self.name(&spec.id);
        if !spec.files.is_empty() {
            let user = spec.user.as_deref().and_then(numbers);
            let archive = bollard::body_full(tar::archive(&spec.files, user));
            let options =
                UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
            self.call(doing, client.upload_to_container(&name, Some(options), archive)).await?;
        }
        self.call(doing, client.start_container(&name, None)).await
    }

    async fn delete(&self, id: &InstanceRef, doing: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let name = self.name(id);
        // With the volumes that the image made for it, which have no name and no other use.
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match self.call(doing, client.remove_container(&name, Some(options))).await {
            Err(error) if error.fault == Fault::NoSuchInstance => Ok(()),
            Err(error) if error.fault == Fault::Conflict => self.is_removed(id, doing, error).await,
            done => done,
        }
    }

    /// Somebody else is at it already.
    async fn is_removed(
        &self,
        id: &InstanceRef,
        doing: &str,
        conflict: RuntimeError,
    ) -> Result<(), RuntimeError> {
        let until = tokio::time::Instant::now() + self.config.call_deadline;
        while self.find(id, doing).await?.is_some() {
            if tokio::time::Instant::now() > until {
                return Err(conflict);
            }
            tokio::time::sleep(REMOVAL_POLL).await;
        }
        Ok(())
    }
}

/// A user that the archive can name.
fn numbers(user: &str) -> Option<(u32, u32)> {
    let (user, group) = user.split_once(':').unwrap_or((user, user));
    Some((user.parse().ok()?, group.parse().ok()?))
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn start(&self, spec: &InstanceSpec) -> Result<InstanceStatus, RuntimeError> {
        let (id, doing) = (&spec.id, format!("start {}", spec.id));
        create::check(spec).map_err(|reason| self.error(Fault::InvalidSpec, &doing, &reason))?;
        let found = match self.find(id, &doing).await? {
            None => {
                match self.create(spec, &doing).await {
                    // Another one was quicker.
                    Err(error) if error.fault == Fault::Conflict => {}
                    created => created?,
                }
                self.find(id, &doing).await?
            }
            found => found,
        };
        let status = found.map(|found| status::status(id, &found));
        if let Some(status) = status.filter(|status| status.state != InstanceState::Created) {
            return Ok(status);
        }
        if let Err(mut error) = self.launch(spec, &doing).await {
            if !error.may_have_happened {
                error.may_have_happened = self.delete(id, &doing).await.is_err();
            }
            return Err(error);
        }
        let found = self.find(id, &doing).await?;
        let found = found.ok_or_else(|| self.error(Fault::Failed, &doing, "it was removed meanwhile"))?;
        Ok(status::status(id, &found))
    }

    async fn stop(&self, id: &InstanceRef, grace: Duration) -> Result<Option<InstanceStatus>, RuntimeError> {
        let doing = format!("stop {id}");
        if self.find(id, &doing).await?.is_none() {
            return Ok(None);
        }
        let client = self.client().await?;
        // Engines know whole seconds only; a little more grace harms less than a little less.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options =
            StopContainerOptions { t: i32::try_from(seconds).ok(), ..StopContainerOptions::default() };
        let deadline = grace + Duration::from_secs(1) + self.config.call_deadline;
        let name = self.name(id);
        match self
            .call_within(deadline, &doing, Asked::Other, client.stop_container(&name, Some(options)))
            .await
        {
            Err(error) if error.fault == Fault::NoSuchInstance => return Ok(None),
            done => done?,
        }
        Ok(self.find(id, &doing).await?.map(|found| status::status(id, &found)))
    }

    async fn remove(&self, id: &InstanceRef) -> Result<(), RuntimeError> {
        let doing = format!("remove {id}");
        match self.find(id, &doing).await? {
            None => Ok(()),
            Some(_ours) => self.delete(id, &doing).await,
        }
    }

    async fn list(&self) -> Result<Vec<InstanceStatus>, RuntimeError> {
        let doing = "list containers";
        let client = self.client().await?;
        let label = format!("{}={}", create::LABEL_OWNER, self.config.owner);
        let filters = Some(HashMap::from([("label".to_owned(), vec![label])]));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let listed = self.call(doing, client.list_containers(Some(options))).await?;
        let ids =
            listed.into_iter().filter_map(|container| status::id(&container.labels.unwrap_or_default()));
        let ids: Vec<InstanceRef> = ids.collect();
        let mut asked = streams::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffer_unordered(INSPECTED_AT_ONCE);
        let mut instances = Vec::new();
        while let Some(found) = asked.next().await {
            match found {
                Ok(found) => instances.extend(found),
                // Somebody made it look like one of ours.
                Err(error) if error.fault == Fault::Conflict => {
                    tracing::warn!(%error, "a container is left alone");
                }
                Err(error) => return Err(error),
            }
        }
        instances.sort_by(|one, other| one.id.cmp(&other.id));
        instances.dedup_by(|one, other| one.id == other.id);
        Ok(instances)
    }

    async fn inspect(&self, id: &InstanceRef) -> Result<Option<InstanceStatus>, RuntimeError> {
        Ok(self.find(id, &format!("inspect {id}")).await?.map(|found| status::status(id, &found)))
    }

    async fn wait(
        &self,
        id: &InstanceRef,
        at_most: Duration,
    ) -> Result<Option<InstanceStatus>, RuntimeError> {
        let found = self.inspect(id).await?;
        if found.as_ref().is_some_and(|found| !found.state.has_ended()) {
            let (client, name) = (self.client().await?, self.name(id));
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            let mut ended = Box::pin(client.wait_container(&name, Some(options)));
            // However it goes, the container is looked at again.
            let _ended = tokio::time::timeout(at_most, ended.next()).await;
            return self.inspect(id).await;
        }
        Ok(found)
    }

    async fn logs(&self, id: &InstanceRef, request: &LogRequest) -> Result<LogLines, RuntimeError> {
        let doing = format!("read the output of {id}");
        if self.find(id, &doing).await?.is_none() {
            return Err(self.error(Fault::NoSuchInstance, &doing, "there is no such container"));
        }
        stream::logs(self, id, request).await
    }

    async fn exec(&self, id: &InstanceRef, request: &ExecRequest) -> Result<ExecOutcome, RuntimeError> {
        self.running(id, &format!("run a hook in {id}")).await?;
        stream::exec(self, id, request).await
    }

    async fn update(&self, id: &InstanceRef, resources: &Resources) -> Result<(), RuntimeError> {
        let doing = format!("change the resources of {id}");
        self.running(id, &doing).await?;
        let (client, name) = (self.client().await?, self.name(id));
        self.call(&doing, client.update_container(&name, create::update(resources))).await
    }

    async fn cpu_used(&self, ids: &[InstanceRef]) -> Result<Vec<(InstanceRef, Duration)>, RuntimeError> {
        let client = self.client().await?;
        let measure = |id: InstanceRef| async move {
            let (name, doing) = (self.name(&id), format!("measure {id}"));
            let options = StatsOptions { stream: false, one_shot: true };
            let mut told = Box::pin(client.stats(&name, Some(options)));
            let told = self.call(&doing, async { told.next().await.transpose() }).await;
            let told = match told {
                Err(error) if error.fault == Fault::NoSuchInstance => return Ok(None),
                told => told?,
            };
            let used = told.and_then(|told| told.cpu_stats?.cpu_usage?.total_usage);
            // One that does not run has used nothing, by the engine's word.
            Ok(used.filter(|nanos| *nanos > 0).map(|nanos| (id, Duration::from_nanos(nanos))))
        };
        let asked = streams::iter(ids.to_vec()).map(measure).buffer_unordered(INSPECTED_AT_ONCE);
        let found: Vec<Option<_>> = asked.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn host_facts(&self) -> Result<HostFacts, RuntimeError> {
        let client = self.client().await?;
        let info = self.call("inspect the host", client.info()).await?;
        let memory = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        // An engine does not say what is free. Behind a socket of this machine it is this machine's,
        // unless the engine is in a machine of its own: then their sizes differ.
        let here = if self.config.endpoint.is_local() { Memory::read().ok() } else { None };
        let here = here.filter(|here| here.total == memory);
        let lacks = [
            (info.memory_limit, "memory: no limit, as the engine's kernel has none"),
            (info.cpu_cfs_quota, "cpu_millis: no limit, as the engine's kernel has none"),
            (info.cpu_shares, "cpu_shares: no shares, as the engine's kernel has none"),
            (info.pids_limit, "pids: no limit, as the engine's kernel has none"),
        ];
        let lacks = lacks.into_iter().filter(|(has, _)| *has == Some(false)).map(|(_, text)| text.to_owned());
        let warnings = info.warnings.unwrap_or_default();
        Ok(HostFacts {
            runtime: format!("Docker {}", info.server_version.unwrap_or_default()),
            cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1),
            memory,
            memory_available: here.map(|here| here.available),
            load: None,
            limitations: lacks.chain(warnings.iter().map(|text| fault::printable(text))).collect(),
        })
    }
}
