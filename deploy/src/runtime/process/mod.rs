//! Instances as processes of this machine, which outlive Sluice.
//!
//! An instance is looked after by a shim, see [`shim`]; this is who starts shims, asks them to end their
//! instances, and reads what they wrote. It keeps nothing in memory that is not on disk: a new Sluice on
//! the same state folder finds every instance as the old one left it. See `state` for what is on disk
//! and `docs/runtimes.md` for what operators need to know.

mod cgroup;
mod cpu;
mod exec;
mod facts;
mod logs;
pub mod shim;
mod start;
mod state;
mod stop;
mod strays;
mod time;
mod user;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream;
use topology::{AppId, InstanceId, VersionId};

use super::child::Launcher;
use super::{
    ExecOutcome, ExecRequest, Fault, HostFacts, InstanceRef, InstanceSpec, InstanceStatus, LogLines,
    LogRequest, Resources, Runtime, RuntimeError, unique_name,
};
use cgroup::{Cgroup, Cgroups, LimitError};
pub(super) use facts::Memory;
use state::{Folder, Found, ShimRecord};

/// Starting a process and writing some small files takes milliseconds; a disk that hangs, for ever.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Where removed instances' files wait to be deleted. No app's id starts with a dot.
const REMOVED: &str = ".removed";

/// What a process runtime is made with.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// How errors and logs call this machine.
    pub host: Arc<str>,
    /// Where instances' records and output are. Whoever opens the same folder finds the same instances.
    pub state: PathBuf,
    /// The cgroup to make instances' cgroups in, as `/proc/self/cgroup` writes it. Default: our own.
    pub cgroup: Option<PathBuf>,
    pub shim: ShimCommand,
}

/// What starts a process that calls [`shim::run`] and does nothing else.
#[derive(Debug, Clone)]
pub struct ShimCommand {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
}

impl ShimCommand {
    /// The binary that runs, whatever has been put in its place since, with these arguments.
    pub fn this_binary(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsString::from).collect();
        Self { program: "/proc/self/exe".into(), arguments, environment: Vec::new() }
    }
}

/// Starts processes that outlive us, and finds them again.
#[derive(Debug)]
pub struct ProcessRuntime {
    shared: Arc<Shared>,
    launcher: Launcher,
}

#[derive(Debug)]
struct Shared {
    config: ProcessConfig,
    cgroups: Cgroups,
    /// Who works on which instance: two calls for one instance take turns.
    turns: Mutex<HashMap<InstanceRef, Arc<tokio::sync::Mutex<()>>>>,
}

impl ProcessRuntime {
    /// Finds the instances that are there, and ends what is left of those whose shim was killed or whose
    /// folder is gone. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// When the state folder cannot be made or read.
    pub fn open(config: ProcessConfig) -> io::Result<Self> {
        state::create_folder(&config.state)?;
        let state = fs::canonicalize(&config.state)?;
        let config = ProcessConfig { state, ..config };
        let cgroups = Cgroups::find(config.cgroup.as_deref());
        for limitation in &cgroups.limitations {
            tracing::warn!(host = %config.host, %limitation, "instances cannot be limited in everything");
        }
        let launcher = Launcher::start()?;
        let shared = Arc::new(Shared { config, cgroups, turns: Mutex::default() });
        shared.delete_removed();
        shared.kill_strays();
        Ok(Self { shared, launcher })
    }

    fn error(&self, fault: Fault, id: &InstanceRef, doing: &str, reason: impl Into<String>) -> RuntimeError {
        self.shared.error(fault, format!("{doing} {id}"), reason)
    }

    /// Does something with files, off the threads that must not wait for a disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        doing: String,
        work: impl FnOnce(&Shared) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let shared = self.shared.clone();
        let work = tokio::task::spawn_blocking(move || work(&shared));
        match tokio::time::timeout(CALL_DEADLINE, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(self.shared.error(Fault::Failed, doing, panicked.to_string())),
            Err(_) => {
                let mut error = self.shared.error(Fault::Timeout, doing, "the disk did not answer in time");
                error.may_have_happened = true;
                Err(error)
            }
        }
    }

    async fn find(&self, id: &InstanceRef, doing: &str) -> Result<Found, RuntimeError> {
        let (id, doing) = (id.clone(), format!("{doing} {id}"));
        self.on_disk(doing.clone(), move |shared| shared.find(&id).map_err(|error| shared.io(&doing, error)))
            .await
    }
}

impl Shared {
    fn folder(&self, id: &InstanceRef) -> Folder {
        Folder::of(&self.config.state, id)
    }

    fn turn(&self, id: &InstanceRef) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for are forgotten, so that the list is as long as calls are under way.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(id.clone()).or_default().clone()
    }

    fn cgroup(&self, id: &InstanceRef) -> Cgroup {
        self.cgroups.named(&cgroup_name(&self.config.state, id))
    }

    /// Finds an instance; one whose shim was killed is ended first, so that what is said of it stays
    /// true.
    fn find(&self, id: &InstanceRef) -> io::Result<Found> {
        let folder = self.folder(id);
        match folder.find()? {
            Found::Abandoned(record, shim) => match self.end_abandoned(id, &folder, &shim)? {
                Some(end) => Ok(Found::Ended(record, Some(shim), end)),
                None => Ok(Found::Abandoned(record, shim)),
            },
            found => Ok(found),
        }
    }

    /// `None`: somebody else is at it.
    fn end_abandoned(
        &self,
        id: &InstanceRef,
        folder: &Folder,
        shim: &ShimRecord,
    ) -> io::Result<Option<state::End>> {
        let Some(_lock) = folder.hold()? else { return Ok(None) };
        if let Some(end) = folder.read_end()? {
            return Ok(Some(end));
        }
        let killed = self.kill_processes(id, folder, shim);
        let end = state::End::unseen("its supervisor was killed, or the machine was restarted");
        folder.write_end(&end)?;
        tracing::warn!(instance = %id, killed, "an instance had lost its supervisor and was ended");
        Ok(Some(end))
    }

    fn kill_processes(&self, id: &InstanceRef, folder: &Folder, shim: &ShimRecord) -> usize {
        shim.shim.kill();
        if let Some(leader) = &shim.leader {
            leader.kill();
        }
        cgroup::kill(&self.cgroup(id).folders());
        strays::kill_marked(|marked| marked == folder.path)
    }

    /// Ends processes of instances that are in no folder any more.
    fn kill_strays(&self) {
        let is_stray =
            |marked: &Path| marked.starts_with(&self.config.state) && !marked.join("record.json").exists();
        let killed = strays::kill_marked(is_stray);
        if killed > 0 {
            tracing::warn!(host = %self.config.host, killed, "processes of instances that are gone were ended");
        }
    }

    fn delete_removed(&self) {
        let Ok(removed) = fs::read_dir(self.config.state.join(REMOVED)) else { return };
        for folder in removed.flatten() {
            let _next_time = fs::remove_dir_all(folder.path());
        }
    }

    fn instances(&self) -> io::Result<Vec<InstanceRef>> {
        let mut instances = Vec::new();
        for app in names(&self.config.state)? {
            let Ok(app) = AppId::parse(&app) else { continue };
            let of_app = self.config.state.join(app.as_str());
            for version in names(&of_app)? {
                let Ok(version) = VersionId::parse(&version) else { continue };
                for instance in names(&of_app.join(version.as_str()))? {
                    let Ok(instance) = InstanceId::parse(&instance) else { continue };
                    instances.push(InstanceRef { app: app.clone(), version: version.clone(), instance });
                }
            }
        }
        instances.sort();
        Ok(instances)
    }

    fn error(&self, fault: Fault, doing: String, reason: impl Into<String>) -> RuntimeError {
        let host = self.config.host.clone();
        RuntimeError { fault, doing, host, reason: reason.into(), may_have_happened: false, source: None }
    }

    fn io(&self, doing: &str, error: io::Error) -> RuntimeError {
        let fault = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                Fault::OutOfResources
            }
            _ => Fault::Failed,
        };
        let reason = error.to_string();
        RuntimeError { source: Some(Box::new(error)), ..self.error(fault, doing.to_owned(), reason) }
    }

    fn limit(&self, doing: &str, error: LimitError) -> RuntimeError {
        let fault = match &error {
            LimitError::Unsupported(_) => Fault::Unsupported,
            LimitError::InUse { .. } => Fault::OutOfResources,
            LimitError::Write { .. } => Fault::Failed,
        };
        let reason = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        RuntimeError { source: Some(Box::new(error)), ..self.error(fault, doing.to_owned(), reason) }
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn start(&self, spec: &InstanceSpec) -> Result<InstanceStatus, RuntimeError> {
        let turn = self.shared.turn(&spec.id);
        let _mine = turn.lock().await;
        start::start(self, spec).await
    }

    async fn stop(&self, id: &InstanceRef, grace: Duration) -> Result<Option<InstanceStatus>, RuntimeError> {
        stop::stop(self, id, grace).await
    }

    async fn remove(&self, id: &InstanceRef) -> Result<(), RuntimeError> {
        stop::remove(self, id).await
    }

    async fn list(&self) -> Result<Vec<InstanceStatus>, RuntimeError> {
        self.on_disk("list instances".to_owned(), |shared| {
            let instances = shared.instances().map_err(|error| shared.io("list instances", error))?;
            let status = |id: &InstanceRef| {
                let found = shared.find(id).map_err(|error| shared.io(&format!("inspect {id}"), error))?;
                Ok(found.status(id))
            };
            instances.iter().filter_map(|id| status(id).transpose()).collect()
        })
        .await
    }

    async fn inspect(&self, id: &InstanceRef) -> Result<Option<InstanceStatus>, RuntimeError> {
        Ok(self.find(id, "inspect").await?.status(id))
    }

    async fn wait(
        &self,
        id: &InstanceRef,
        at_most: Duration,
    ) -> Result<Option<InstanceStatus>, RuntimeError> {
        stop::wait(self, id, at_most).await
    }

    async fn logs(&self, id: &InstanceRef, request: &LogRequest) -> Result<LogLines, RuntimeError> {
        if matches!(self.find(id, "read the output of").await?, Found::Nothing) {
            return Err(self.error(
                Fault::NoSuchInstance,
                id,
                "read the output of",
                "there is no such instance",
            ));
        }
        let reader = logs::Reader::new(self.shared.folder(id), request);
        let source =
            logs::Source::new(reader, request, self.shared.clone(), format!("read the output of {id}"));
        Ok(Box::pin(stream::unfold(source, logs::Source::next)))
    }

    async fn exec(&self, id: &InstanceRef, request: &ExecRequest) -> Result<ExecOutcome, RuntimeError> {
        let doing = "run a hook in";
        let (record, leader) = match self.find(id, doing).await? {
            Found::Running(record, Some(ShimRecord { leader: Some(leader), .. })) => (record, leader),
            Found::Nothing => {
                return Err(self.error(Fault::NoSuchInstance, id, doing, "there is no such instance"));
            }
            _ => return Err(self.error(Fault::NotRunning, id, doing, "it does not run")),
        };
        let cgroup = self.shared.cgroup(id);
        let ran = exec::run(&self.launcher, &leader, &record, &cgroup, request).await;
        ran.map_err(|error| {
            let fault = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Fault::CommandNotFound,
                io::ErrorKind::InvalidInput => Fault::InvalidSpec,
                io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Fault::OutOfResources,
                _ => Fault::Failed,
            };
            let program = request.command.first().map_or("", String::as_str);
            let reason = format!("cannot start `{program}`: {error}");
            RuntimeError { source: Some(Box::new(error)), ..self.error(fault, id, doing, reason) }
        })
    }

    async fn update(&self, id: &InstanceRef, resources: &Resources) -> Result<(), RuntimeError> {
        let doing = "change the resources of";
        match self.find(id, doing).await? {
            Found::Running(..) => {}
            Found::Nothing => {
                return Err(self.error(Fault::NoSuchInstance, id, doing, "there is no such instance"));
            }
            _ => return Err(self.error(Fault::NotRunning, id, doing, "it does not run")),
        }
        let (id, resources) = (id.clone(), *resources);
        self.on_disk(format!("{doing} {id}"), move |shared| {
            let cgroup = shared.cgroup(&id);
            let set = cgroup.unsupported(&resources).map_or_else(|| cgroup.set(&resources), Err);
            set.map_err(|error| shared.limit(&format!("{doing} {id}"), error))
        })
        .await
    }

    async fn cpu_used(&self, ids: &[InstanceRef]) -> Result<Vec<(InstanceRef, Duration)>, RuntimeError> {
        let ids = ids.to_vec();
        self.on_disk("measure instances".to_owned(), move |shared| Ok(cpu::used(shared, ids))).await
    }

    async fn host_facts(&self) -> Result<HostFacts, RuntimeError> {
        self.on_disk("inspect the host".to_owned(), |shared| {
            facts::read(shared.cgroups.limitations.clone())
                .map_err(|error| shared.io("inspect the host", error))
        })
        .await
    }
}

fn cgroup_name(state: &Path, id: &InstanceRef) -> String {
    unique_name(&state.display().to_string(), id)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests;
