//! The runtimes of the registry's hosts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use deploy::engine::Hosts;
use deploy::model::Host;
use deploy::runtime::Runtime;
use deploy::runtime::docker::{CALL_DEADLINE, DockerRuntime, PULL_DEADLINE};
use deploy::runtime::process::{ProcessConfig, ProcessRuntime, ShimCommand};
use topology::HostId;

use super::logins::read_logins;
use crate::config::{DeployConfig, DockerConfig, RuntimeConfig};

/// The command of this binary that looks after one process.
const SHIM: &str = "instance-shim";

pub(super) struct RuntimeHosts(Kind);

enum Kind {
    /// This machine, and nobody else.
    Process {
        id: HostId,
        runtime: Arc<ProcessRuntime>,
    },
    Docker {
        config: DockerConfig,
        made: Mutex<HashMap<HostId, (String, Arc<DockerRuntime>)>>,
    },
}

impl RuntimeHosts {
    /// Finds the instances of this machine; connects to no engine yet.
    pub(super) fn open(config: &DeployConfig) -> anyhow::Result<Self> {
        match &config.runtime {
            RuntimeConfig::Process { state } => {
                let id = config.host.as_ref().map(|host| host.id.clone());
                let id = id.context("deploy.host is missing; write host = \"host-1\"")?;
                let opened = ProcessRuntime::open(ProcessConfig {
                    host: id.as_str().into(),
                    state: state.clone(),
                    cgroup: None,
                    shim: ShimCommand::this_binary(&[SHIM]),
                });
                let runtime =
                    opened.with_context(|| format!("deploy.state: cannot use {}", state.display()))?;
                Ok(Self(Kind::Process { id, runtime: Arc::new(runtime) }))
            }
            RuntimeConfig::Docker(docker) => {
                if let Some(logins) = &docker.logins {
                    read_logins(logins).map_err(|why| anyhow::anyhow!("deploy.docker.logins: {why}"))?;
                }
                Ok(Self(Kind::Docker { config: docker.clone(), made: Mutex::default() }))
            }
        }
    }
}

impl Hosts for RuntimeHosts {
    fn runtime(&self, id: &HostId, host: &Host) -> Result<Arc<dyn Runtime>, String> {
        match &self.0 {
            Kind::Process { id: own, runtime } if own == id => Ok(runtime.clone()),
            Kind::Process { id: own, .. } => Err(format!(
                "a deploy API with runtime = \"process\" runs what is on its own machine only, which is {own}; \
                 remove this host, or use runtime = \"docker\""
            )),
            Kind::Docker { config, made } => {
                let endpoint = host.endpoint.as_ref().unwrap_or(&config.endpoint);
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, runtime)) = made.get(id).filter(|(of, _)| of == endpoint) {
                    return Ok(runtime.clone());
                }
                let runtime = Arc::new(connect(config, id, endpoint)?);
                made.insert(id.clone(), (endpoint.clone(), runtime.clone()));
                Ok(runtime)
            }
        }
    }
}

fn connect(config: &DockerConfig, id: &HostId, endpoint: &str) -> Result<DockerRuntime, String> {
    let logins = config.logins.as_deref().map(read_logins).transpose()?.unwrap_or_default();
    DockerRuntime::new(deploy::runtime::docker::DockerConfig {
        host: id.as_str().into(),
        endpoint: config.endpoint(endpoint)?,
        owner: config.owner.clone(),
        logins,
        call_deadline: CALL_DEADLINE,
        pull_deadline: PULL_DEADLINE,
    })
    .map_err(|error| error.to_string())
}
