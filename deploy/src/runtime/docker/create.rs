//! What an engine is told of an instance.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::runtime::{InstanceRef, InstanceSpec, Resources, Volume};

pub(super) const LABEL_APP: &str = "sluice.app";
pub(super) const LABEL_VERSION: &str = "sluice.version";
pub(super) const LABEL_INSTANCE: &str = "sluice.instance";
pub(super) const LABEL_OWNER: &str = "sluice.owner";
/// Where it is published: an engine does not say it of a container that has ended.
pub(super) const LABEL_ADDRESS: &str = "sluice.address";

/// In microseconds; what engines take by default.
const CPU_PERIOD: i64 = 100_000;
/// What engines give to a container that nobody has given shares.
const DEFAULT_SHARES: i64 = 1024;
/// As for processes.
const KEEP_BYTES: u64 = 10 << 20;
const UNLIMITED: i64 = -1;

/// The field that is wrong, if one is.
pub(super) fn check(spec: &InstanceSpec) -> Result<(), String> {
    let Some(image) = &spec.image else {
        return Err("image: a container needs one; name what the build pushed".to_owned());
    };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain(&image.repository)
        || !plain(&image.tag)
        || image.registry.as_deref().is_some_and(|host| !plain(host))
    {
        return Err(format!("image: `{}` is no image's name", super::fault::printable(&image.reference())));
    }
    if spec.port.host_port == 0 || spec.port.container_port == 0 {
        return Err("port: 0 is no port".to_owned());
    }
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("environment: `{}` cannot be a variable", name.escape_default()));
        }
    }
    for Volume { source, target, .. } in &spec.volumes {
        if !target.starts_with('/') || source.is_empty() || source.contains(':') || target.contains(':') {
            return Err(format!(
                "volumes: `{source}` to `{target}`: the target is absolute, and neither has a colon"
            ));
        }
    }
    for file in &spec.files {
        super::tar::check(&file.path).map_err(|error| format!("files: `{}` {error}", file.path))?;
    }
    Ok(())
}

pub(super) fn container(spec: &InstanceSpec, owner: &str) -> ContainerCreateBody {
    let InstanceRef { app, version, instance } = &spec.id;
    let port = format!("{}/tcp", spec.port.container_port);
    let address = std::net::SocketAddr::new(spec.port.address, spec.port.host_port);
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.extend(
        [
            (LABEL_APP, app.to_string()),
            (LABEL_VERSION, version.to_string()),
            (LABEL_INSTANCE, instance.to_string()),
            (LABEL_OWNER, owner.to_owned()),
            (LABEL_ADDRESS, address.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    ContainerCreateBody {
        image: spec.image.as_ref().map(crate::runtime::Image::reference),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(environment(spec)),
        user: spec.user.clone(),
        working_dir: spec.working_dir.as_ref().map(|folder| folder.display().to_string()),
        exposed_ports: Some(vec![port.clone()]),
        labels: Some(labels),
        host_config: Some(host_config(spec, port)),
        ..ContainerCreateBody::default()
    }
}

fn environment(spec: &InstanceSpec) -> Vec<String> {
    let facts = [
        ("PORT", spec.port.container_port.to_string()),
        ("SLUICE_ADDRESS", "0.0.0.0".to_owned()),
        ("SLUICE_APP", spec.id.app.to_string()),
        ("SLUICE_VERSION", spec.id.version.to_string()),
        ("SLUICE_INSTANCE", spec.id.instance.to_string()),
        ("SLUICE_FILES", "/".to_owned()),
    ];
    // Of two with one name programs find the first.
    let is_fact = |name: &str| facts.iter().any(|(fact, _)| *fact == name);
    let given = spec.environment.iter().filter(|(name, _)| !is_fact(name));
    let given: Vec<_> = given.map(|(name, value)| format!("{name}={value}")).collect();
    given.into_iter().chain(facts.map(|(name, value)| format!("{name}={value}"))).collect()
}

fn host_config(spec: &InstanceSpec, port: String) -> HostConfig {
    let published = PortBinding {
        host_ip: Some(spec.port.address.to_string()),
        host_port: Some(spec.port.host_port.to_string()),
    };
    let binds = spec.volumes.iter().map(|Volume { source, target, read_only }| {
        format!("{source}:{target}{}", if *read_only { ":ro" } else { "" })
    });
    let Limits { memory, cpu_shares, cpu_quota, pids } = Limits::of(&spec.resources);
    HostConfig {
        memory,
        memory_swap: memory,
        cpu_shares,
        cpu_period: cpu_quota.map(|_| CPU_PERIOD),
        cpu_quota,
        pids_limit: pids,
        binds: Some(binds.collect()),
        port_bindings: Some(HashMap::from([(port, Some(vec![published]))])),
        log_config: Some(log_config(spec)),
        // We restart, with back-off and for a reason: two that do would do it twice.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    }
}

fn log_config(spec: &InstanceSpec) -> HostConfigLogConfig {
    let mut options: HashMap<String, String> = spec.log.options.clone().into_iter().collect();
    let driver = spec.log.driver.clone().unwrap_or_else(|| {
        let half = spec.log.keep.unwrap_or(KEEP_BYTES) / 2;
        options.entry("max-size".to_owned()).or_insert_with(|| half.max(1024).to_string());
        options.entry("max-file".to_owned()).or_insert_with(|| "2".to_owned());
        "json-file".to_owned()
    });
    HostConfigLogConfig { typ: Some(driver), config: Some(options) }
}

/// What is `None` keeps what it was in an update: there a lifted limit has to be said.
pub(super) fn update(resources: &Resources) -> ContainerUpdateBody {
    let Limits { memory, cpu_shares, cpu_quota, pids } = Limits::of(resources);
    ContainerUpdateBody {
        memory: memory.or(Some(UNLIMITED)),
        memory_swap: memory.or(Some(UNLIMITED)),
        cpu_shares: cpu_shares.or(Some(DEFAULT_SHARES)),
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: cpu_quota.or(Some(UNLIMITED)),
        pids_limit: pids.or(Some(UNLIMITED)),
        ..ContainerUpdateBody::default()
    }
}

struct Limits {
    memory: Option<i64>,
    cpu_shares: Option<i64>,
    cpu_quota: Option<i64>,
    pids: Option<i64>,
}

impl Limits {
    fn of(resources: &Resources) -> Self {
        Self {
            memory: resources.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            cpu_shares: resources.cpu_shares.map(i64::from),
            cpu_quota: resources.cpu_millis.map(|millis| i64::from(millis) * CPU_PERIOD / 1000),
            pids: resources.pids.map(i64::from),
        }
    }
}
