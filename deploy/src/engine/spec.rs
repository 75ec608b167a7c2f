//! What a runtime is told to run: a release, a place, and the app's configuration.

use std::collections::BTreeMap;

use bytes::Bytes;
use discovery::registry::{Key, Registry};
use discovery::secrets::{Keys, unseal};
use topology::{AppId, InstanceId};

use crate::lifecycle::StartFailure;
use crate::model::{Record, Release, Reservation, Run, keys};
use crate::runtime::{
    Image, InjectedFile, InstanceSpec, LogOptions, PortBinding, Resources, RuntimeError, Volume,
};

/// Name → value, as `config/{app}` has them.
pub(super) type Config = BTreeMap<String, String>;

/// # Errors
/// Why it cannot be read; nothing of its contents.
pub(super) fn parse_config(key: &Key, value: &[u8], keys: Option<&Keys>) -> Result<Config, String> {
    let plain = unseal(keys, key, value).map_err(|error| format!("{key} {error}"))?;
    serde_json::from_slice(&plain).map_err(|_| format!("{key} is no JSON object of strings"))
}

/// What the app's configuration is now.
pub(super) async fn read_config(
    registry: &dyn Registry,
    app: &AppId,
    keys: Option<&Keys>,
) -> Result<Config, StartFailure> {
    let key = keys::config(app);
    let passing = |reason| StartFailure { reason, fatal: false, of_host: true };
    match registry.read(&key).await {
        Ok(None) => Ok(Config::new()),
        Ok(Some(entry)) => parse_config(&key, &entry.value, keys).map_err(fatal),
        Err(error) => Err(passing(format!("its configuration cannot be read: {error}"))),
    }
}

/// # Errors
/// A name that the configuration does not have.
pub(super) fn instance_spec(
    app: &AppId,
    id: &InstanceId,
    record: &Record,
    release: &Release,
    config: &Config,
) -> Result<InstanceSpec, StartFailure> {
    let spec = &release.spec;
    let look_up = |field: &str, at: &str, name: &str| {
        let missing = || fatal(format!("{field}.{at}: the app's configuration has no {name}; set it"));
        config.get(name).cloned().ok_or_else(missing)
    };
    let mut environment = spec.environment.clone();
    for (variable, name) in &spec.secrets {
        environment.insert(variable.clone(), look_up("secrets", variable, name)?);
    }
    let mut files = Vec::with_capacity(spec.files.len());
    for (path, name) in &spec.files {
        let content = Bytes::from(look_up("files", path, name)?);
        files.push(InjectedFile { path: path.clone(), content });
    }
    let (image, command) = match &spec.run {
        Run::Image { registry, repository, tag, command } => {
            let image =
                Image { registry: registry.clone(), repository: repository.clone(), tag: tag.clone() };
            (Some(image), command.clone())
        }
        Run::Command(command) => (None, command.clone()),
    };
    let volume = |volume: &crate::model::VolumeSpec| Volume {
        source: volume.source.clone(),
        target: volume.target.clone(),
        read_only: volume.read_only,
    };
    Ok(InstanceSpec {
        id: record.reference(app, id),
        image,
        command,
        environment,
        working_dir: spec.working_dir.clone().map(Into::into),
        user: spec.user.clone(),
        port: PortBinding {
            address: record.address.ip(),
            host_port: record.address.port(),
            container_port: spec.port,
        },
        resources: resources(&spec.resources),
        volumes: spec.volumes.iter().map(volume).collect(),
        files,
        log: LogOptions::default(),
        labels: BTreeMap::new(),
    })
}

/// What a version reserves is what its instances may use.
pub(super) fn resources(reserved: &Reservation) -> Resources {
    Resources {
        memory: (reserved.memory > 0).then_some(reserved.memory),
        cpu_shares: reserved.cpu_shares,
        cpu_millis: (reserved.cpu > 0).then_some(reserved.cpu),
        pids: reserved.pids,
    }
}

fn fatal(reason: String) -> StartFailure {
    StartFailure { reason, fatal: true, of_host: false }
}

impl From<&RuntimeError> for StartFailure {
    fn from(error: &RuntimeError) -> Self {
        use crate::runtime::Fault;
        // What nobody knows the cause of is charged to who was started: a host that fails so fails for all.
        let of_host = error.fault.is_of_the_host() && error.fault != Fault::Failed;
        let fatal = !error.fault.is_of_the_host() && !error.fault.is_passing();
        Self { reason: error.to_string(), fatal, of_host }
    }
}
