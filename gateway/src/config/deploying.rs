//! `[deploy]`: what starts instances, where, and who may say so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy::engine::Settings;
use deploy::model::read_ports;
use deploy::runtime::docker::Endpoint;
use discovery::document::Table;
use topology::HostId;

use super::admin::check_address;
use super::tls::read_tls;
use super::values::{file_path, socket_address};
use super::{AdminConfig, ListenerConfig, TlsConfig};

const DEFAULT_STATE: &str = "data/instances";
const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";
const DEFAULT_OWNER: &str = "sluice";
/// A label of a container; engines take more.
const MAX_OWNER_BYTES: usize = 64;
/// An answer that is late is no host that is lost; nobody waits for a day.
const LOST_AFTER: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// 1 PiB.
const MAX_MEMORY: u64 = 1 << 50;
/// In hundredths of a processor: 10,000 of them.
const MAX_CPU: u32 = 1_000_000;

/// Keeps what runs equal to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployConfig {
    /// Of its API. `None`: it has none, and follows what stands in the registry.
    pub address: Option<SocketAddr>,
    /// Of [`Self::address`]. `None`: clear text, on the loopback.
    pub tls: Option<TlsConfig>,
    pub runtime: RuntimeConfig,
    /// The host that this process enters into the registry. `None`: operators enter hosts.
    pub host: Option<HostConfig>,
    /// A host that has not answered for so long is lost, and its instances move. Default: a minute.
    pub lost_after: Duration,
}

/// What runs instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeConfig {
    /// Processes of this machine, which is the only host.
    Process {
        /// The folder of their records and output. Default: `data/instances`.
        state: PathBuf,
    },
    Docker(DockerConfig),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Of this machine, and of hosts that name none. Default: `unix:///var/run/docker.sock`.
    pub endpoint: String,
    /// For `tcp://` endpoints. `None`: clear text.
    pub tls: Option<DockerTls>,
    /// Credentials for image registries, as `docker login` keeps them (`config.json`).
    pub logins: Option<PathBuf>,
    /// Whose containers these are; others are not touched. Default: `sluice`.
    pub owner: String,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerTls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// This machine as a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Default: the gateway's id.
    pub id: HostId,
    /// Where gateways reach its instances. Default: 127.0.0.1.
    pub address: IpAddr,
    /// Default: 25000 to 29999.
    pub ports: RangeInclusive<u16>,
    /// In bytes, for instances. `None`: what the machine has.
    pub memory: Option<u64>,
    /// In hundredths of a processor. `None`: what the machine has.
    pub cpu: Option<u32>,
}

impl DockerConfig {
    /// How an engine is reached, by what a host or the file says.
    ///
    /// # Errors
    /// What to write.
    pub fn endpoint(&self, text: &str) -> Result<Endpoint, String> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Endpoint::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp://").filter(|rest| {
            let (host, port) = rest.rsplit_once(':').unwrap_or_default();
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let address = address.ok_or_else(|| {
            format!(
                "{text:?} is no endpoint; write \"unix:///var/run/docker.sock\" or \"tcp://10.0.0.1:2376\""
            )
        })?;
        Ok(match &self.tls {
            None => Endpoint::Tcp(address.to_owned()),
            Some(DockerTls { ca, certificate, key }) => Endpoint::Tls {
                address: address.to_owned(),
                authority: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            },
        })
    }
}

impl DeployConfig {
    /// Its listener, as the admin API's are made.
    pub fn door(&self) -> Option<AdminConfig> {
        Some(AdminConfig {
            address: Some(self.address?),
            socket: None,
            tls: self.tls.clone(),
            tokens: None,
            requires_token: false,
        })
    }
}

/// `gateway_id`: the default of the host's id.
pub(super) fn read_deploy(
    root: &Table<'_>,
    base: &Path,
    gateway_id: Option<&str>,
    listeners: &[ListenerConfig],
    admin: Option<&AdminConfig>,
) -> Option<DeployConfig> {
    let table = root.table("deploy")?;
    let address = table.parsed("address", socket_address);
    let tls = table.table("tls").and_then(|table| read_tls(table, base));
    check_door(&table, address, tls.as_ref(), listeners, admin);
    let runtime = match table.has("runtime") {
        true => table.choice("runtime", &[("process", false), ("docker", true)]),
        false => Some(false),
    };
    let runtime = match runtime {
        Some(true) => read_docker(&table, base).map(RuntimeConfig::Docker),
        Some(false) => read_process(&table, base),
        // Which keys belong here depends on it.
        None => {
            table.ignore(&["state", "docker"]);
            None
        }
    };
    let lost_after = table.duration("lost_after", LOST_AFTER).unwrap_or(Settings::default().lost_after);
    let enters = table.has("host") || matches!(runtime, Some(RuntimeConfig::Process { .. }));
    let host = read_host(&table, gateway_id, enters);
    table.finish();
    let host = if enters { Some(host?) } else { None };
    Some(DeployConfig { address, tls, runtime: runtime?, host, lost_after })
}

fn check_door(
    table: &Table<'_>,
    address: Option<SocketAddr>,
    tls: Option<&TlsConfig>,
    listeners: &[ListenerConfig],
    admin: Option<&AdminConfig>,
) {
    let Some(address) = address else {
        if table.has("tls") && !table.has("address") {
            table.mistake("tls", "is for an address; add address = \"127.0.0.1:9900\", or remove it");
        }
        return;
    };
    if admin.and_then(|admin| admin.address) == Some(address) && address.port() != 0 {
        table.mistake("address", format!("{address} is the address of [admin]; write another port"));
    } else {
        check_address(table, address, listeners, "the deploy API");
    }
    let knows_somebody =
        tls.is_some_and(|tls| tls.client_auth.is_some()) || admin.is_some_and(|admin| admin.tokens.is_some());
    if tls.is_some() && !knows_somebody {
        let message =
            "lets nobody in: add tokens = \"admin-tokens\" to [admin], or client_ca = \"ca.pem\" here";
        table.mistake("tls", message);
    }
}

fn read_process(table: &Table<'_>, base: &Path) -> Option<RuntimeConfig> {
    table.ignore(&["docker"]);
    if table.has("docker") {
        table.mistake("docker", "is for runtime = \"docker\" only; remove it");
    }
    let state = table.parsed("state", |text| file_path(base, text));
    let state = state.or_else(|| (!table.has("state")).then(|| base.join(DEFAULT_STATE)));
    Some(RuntimeConfig::Process { state: state? })
}

fn read_docker(table: &Table<'_>, base: &Path) -> Option<DockerConfig> {
    table.ignore(&["state"]);
    if table.has("state") {
        table.mistake("state", "is for runtime = \"process\" only; remove it");
    }
    let mut config = DockerConfig {
        endpoint: DEFAULT_SOCKET.to_owned(),
        tls: None,
        logins: None,
        owner: DEFAULT_OWNER.to_owned(),
    };
    let Some(docker) = table.table("docker") else { return Some(config) };
    config.tls = docker.table("tls").and_then(|tls| {
        let file = |key: &'static str, example: &str| {
            tls.required(key, tls.parsed(key, |text| file_path(base, text)), example)
        };
        let read = (
            file("ca", "ca = \"docker/ca.pem\""),
            file("certificate", "certificate = \"docker/client.pem\""),
            file("key", "key = \"docker/client.key\""),
        );
        tls.finish();
        Some(DockerTls { ca: read.0?, certificate: read.1?, key: read.2? })
    });
    if let Some(endpoint) = docker.parsed("endpoint", |text| config.endpoint(text).map(|_| text.to_owned())) {
        config.endpoint = endpoint;
    }
    config.logins = docker.parsed("logins", |text| file_path(base, text));
    if let Some(owner) = docker.parsed("owner", owner) {
        config.owner = owner;
    }
    docker.finish();
    Some(config)
}

fn owner(text: &str) -> Result<String, String> {
    let usable = (1..=MAX_OWNER_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let message = || format!("is no owner; write 1 to {MAX_OWNER_BYTES} of a-z A-Z 0-9 . _ -");
    usable.then(|| text.to_owned()).ok_or_else(message)
}

fn read_host(table: &Table<'_>, gateway_id: Option<&str>, enters: bool) -> Option<HostConfig> {
    let keys = ["host_address", "ports", "memory", "cpu"];
    if !enters {
        table.ignore(&keys);
        for key in keys.into_iter().filter(|key| table.has(key)) {
            table.mistake(key, "is of this machine as a host; add host = \"host-1\", or remove it");
        }
        return None;
    }
    let id = match table.has("host") {
        true => table.parsed("host", HostId::parse),
        false => gateway_id.and_then(|id| HostId::parse(id).ok()),
    };
    let address = table.parsed("host_address", |text| {
        let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
        address.ok_or("is no IP address of this machine; write one such as \"10.0.0.1\"")
    });
    let ports = read_ports(table);
    let memory = table.size("memory", 1 << 20..=MAX_MEMORY);
    let cpu = table.hundredths("cpu", 1..=MAX_CPU);
    Some(HostConfig {
        id: id?,
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports,
        memory,
        cpu,
    })
}
