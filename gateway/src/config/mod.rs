//! Start-up configuration: what `sluice.toml` says, as types that cannot be wrong.
//!
//! Code that holds a [`Config`] checks nothing again. All mistakes are found in one pass, each with its
//! line and key. Apps, routes and certificates change while the gateway runs and are no part of it; of
//! what is, [`Config::take_up`] takes a part while it runs.

mod access_log;
mod admin;
mod app_ports;
mod changes;
mod check;
mod deploying;
mod dns;
mod file;
mod handover;
mod limits;
mod listener;
mod observing;
mod registry;
mod sticky;
mod stream;
mod tenants;
mod tls;
mod values;
mod virtual_ips;
mod warnings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use discovery::document::{Document, Mistakes};
use discovery::file::{FilePattern, read_text};
use discovery::remote::Access;
use discovery::{etcd, zookeeper};
use rustls::pki_types::ServerName;
use topology::Sample;
use topology::filters::RateLimit;

use crate::access_log::{Format, LogTarget};
use crate::listener::proxy_protocol::Mode;
use crate::listener::{Limits, Presence, Transport};
use crate::table::limits::TenantLimits;
use crate::trace::Target;

pub use app_ports::AppPortsConfig;
pub use check::{check, check_and_warn, inspect_access};
pub use deploying::{DeployConfig, DockerConfig, DockerTls, HostConfig, RuntimeConfig};
pub use dns::{DnsSection, NameserverConfig, SecondaryConfig, UpdateConfig};
pub use sticky::{UNSHARED_KEY, sticky_keys};
pub use stream::{DEFAULT_MAX_SESSIONS, DEFAULT_UDP_IDLE, TcpConfig, UdpConfig};
pub use virtual_ips::{ProbeConfig, VipSection};

/// Everything that a process is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Default: [`RegistryConfig::Embedded`] at `data/registry`.
    pub registry: RegistryConfig,
    /// The keys that open its sealed values. `None`: such values are bad ones.
    pub registry_keys: Option<PathBuf>,
    pub belief: BeliefConfig,
    pub gateway: GatewayConfig,
    /// `None`: no admin listener.
    pub admin: Option<AdminConfig>,
    /// `None`: instances are started by others.
    pub deploy: Option<DeployConfig>,
    pub apps: AppsConfig,
    /// `None`: no virtual IPs.
    pub vip: Option<VipSection>,
    /// `None`: names are somebody else's.
    pub dns: Option<DnsSection>,
}

/// Where routing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryConfig {
    /// A directory of this machine's own.
    Embedded {
        path: PathBuf,
    },
    /// A ZooKeeper ensemble. Its prefix has the chroot in front, and no slash at its end.
    ZooKeeper(zookeeper::Settings),
    Etcd(etcd::Settings),
}

impl RegistryConfig {
    /// Whether other gateways may be on it.
    pub fn has_room_for_a_fleet(&self) -> bool {
        !matches!(self, Self::Embedded { .. })
    }

    /// Who we are to it, where it is at the far end of a network.
    pub fn access(&self) -> Option<&Access> {
        match self {
            Self::Embedded { .. } => None,
            Self::ZooKeeper(settings) => Some(&settings.access),
            Self::Etcd(settings) => Some(&settings.access),
        }
    }
}

/// How a registry's word is taken, see [`discovery::doubt`]. Default: as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BeliefConfig {
    /// How long endpoints stay that vanished in a mass loss. Default of registries at the far end of a network: 60 s;
    /// 0: not at all.
    pub grace: Duration,
    /// Where the last good entries are kept. `None`: nowhere; a start without the registry serves files only.
    pub saved: Option<PathBuf>,
}

impl RegistryConfig {
    /// Whose entries they are: those of one registry are not taken for another one's. The embedded one is on this
    /// machine's disk itself.
    pub fn label(&self) -> Option<String> {
        let (kind, servers, prefix) = match self {
            Self::Embedded { .. } => return None,
            Self::ZooKeeper(zookeeper::Settings { servers, prefix, .. }) => ("zookeeper", servers, prefix),
            Self::Etcd(etcd::Settings { servers, prefix, .. }) => ("etcd", servers, prefix),
        };
        let mut servers = servers.clone();
        servers.sort();
        Some(format!("{kind} {}{prefix}", servers.join(",")))
    }
}

/// How requests are served.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Among all gateways of a registry. Default: the host's name.
    pub id: String,
    /// 1 to 256. Default: one per core.
    pub workers: usize,
    /// Lower case. An app without hosts answers at `{appId}.{base_domain}`; `None`: it answers nowhere.
    pub base_domain: Option<String>,
    /// Peers whose word on the client's address is believed. Default: nobody.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Of this machine and its surroundings (loopback, link-local and the like): where apps may have key sets
    /// fetched from nevertheless. Default: nowhere.
    pub jwks_networks: Vec<ipnet::IpNet>,
    /// Where it runs, compared with endpoints' zones. Default: unsaid, so that all are as near.
    pub zone: Option<Arc<str>>,
    /// The keys that cookies of `sticky` apps are signed with. `None`: one of this process's own.
    pub sticky_key_file: Option<PathBuf>,
    /// How many gateways of a fleet probe each endpoint. `None`: all do.
    pub shared_probes: Option<usize>,
    /// Connections kept open between probes. `None`: by the number of files that the process may have.
    pub probe_connections: Option<usize>,
    /// At least one; names are distinct, and so are addresses with a port other than 0.
    pub listeners: Vec<ListenerConfig>,
    /// What apps may ask for.
    pub app_ports: AppPortsConfig,
    /// Of listeners that say nothing of their own.
    pub limits: Arc<Limits>,
    pub upstream_tls: Vec<UpstreamTlsConfig>,
    /// By name, each once; `"*"` stands for every tenant without limits of its own.
    pub tenants: Vec<(Arc<str>, TenantLimits)>,
    /// Bytes of buffers that the workers may lend together before they give things up. `None`: a quarter
    /// of the memory that the process may have.
    pub max_buffers: Option<u64>,
    /// Of all requests together. Default: none.
    pub rate_limits: Vec<RateLimit>,
    pub access_log: AccessLogConfig,
    pub statistics: StatisticsConfig,
    /// `None`: what clients say of traces passes through.
    pub tracing: Option<TracingConfig>,
    /// How long connections are still accepted after `/ready` has begun to say no. Default: 0 s, since
    /// only a load balancer in front of us needs the time.
    pub drain_delay: Duration,
    /// How long requests in flight may take once the process was told to stop. Default: 30 s.
    pub drain_timeout: Duration,
    /// The private socket over which a successor takes the listening sockets. `None`: there is none.
    pub handover: Option<PathBuf>,
    /// How long what is under way may take once a successor serves. Default: 1 h.
    pub handover_drain_timeout: Duration,
}

/// One socket to accept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    pub name: Arc<str>,
    /// Port 0: whichever is free.
    pub address: SocketAddr,
    /// Default: off.
    pub proxy_protocol: Mode,
    /// `freebind`. Default: this host must have the address.
    pub presence: Presence,
    /// What `[gateway.limits]` says, where the listener says nothing of its own.
    pub limits: Arc<Limits>,
    pub protocol: ListenerProtocol,
}

/// What a listener's clients speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerProtocol {
    Http {
        /// `None`: clear text.
        tls: Option<TlsConfig>,
        /// Whether clients may speak HTTP/2. Default: yes.
        http2: bool,
        https: HttpsConfig,
    },
    Tcp(TcpConfig),
    Udp(UdpConfig),
}

impl ListenerProtocol {
    pub fn tls(&self) -> Option<&TlsConfig> {
        match self {
            Self::Http { tls, .. } | Self::Tcp(TcpConfig { tls, .. }) => tls.as_ref(),
            Self::Udp(_) => None,
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Http { .. } | Self::Tcp(_) => Transport::Stream,
            Self::Udp(_) => Transport::Datagram,
        }
    }
}

/// How a listener proves who it is, and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Files with a chain and its key; at least one pattern, or else `from_registry`.
    pub certificates: Vec<FilePattern>,
    /// Serve what the registry has at `certificate/` as well.
    pub from_registry: bool,
    /// Default: TLS 1.2.
    pub min_version: MinTlsVersion,
    /// `None`: clients are asked for no certificate.
    pub client_auth: Option<ClientAuthConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinTlsVersion {
    #[default]
    Tls12,
    Tls13,
}

/// Which client certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuthConfig {
    /// The issuers' certificates in PEM.
    pub ca: PathBuf,
    /// Default: [`ClientAuthMode::Required`].
    pub mode: ClientAuthMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// Clients without a certificate are served too; one that does not verify ends the handshake.
    Optional,
    /// A client without a certificate that verifies ends the handshake.
    Required,
}

/// How plain and secure HTTP know of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsConfig {
    /// Plain listeners: every request is sent to https. Default: no.
    pub redirect: bool,
    /// Plain listeners: where https is, for redirects. Default: 443.
    pub port: u16,
    /// TLS listeners: how long clients are to come by https only. Default: unsaid.
    pub hsts: Option<Duration>,
}

impl HttpsConfig {
    /// RFC 9110 section 4.2.2.
    pub const DEFAULT_PORT: u16 = 443;
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self { redirect: false, port: Self::DEFAULT_PORT, hsts: None }
    }
}

/// A way to speak TLS to endpoints, which apps name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTlsConfig {
    /// Distinct.
    pub name: Arc<str>,
    /// The issuers' certificates in PEM. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What endpoints must prove to be, for apps that do not say.
    pub server_name: Option<ServerName<'static>>,
    /// A chain and its key in PEM: who we are.
    pub certificate: Option<PathBuf>,
}

/// The line that every request leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// `None`: there is no log. Default: [`LogTarget::Stdout`]. Who runs a gateway for the first time wants to see what it
    /// does, containers collect standard output, and a log that nobody had asked to be off is missed
    /// only when it is too late.
    pub target: Option<LogTarget>,
    /// Default: [`Format::Json`].
    pub format: Format,
    /// Bytes that may wait for the target. Default: 16 MiB.
    pub buffer: usize,
    /// Of syslog (RFC 5424 section 6.2.1). Default: local0.
    pub facility: u8,
}

/// Traffic by path and client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsConfig {
    /// Of apps that do not say. Default: no.
    pub enabled: bool,
    /// Bytes, of all apps together. Default: 64 MiB.
    pub memory: usize,
}

/// Spans of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingConfig {
    pub target: Target,
    /// Of the requests that no trusted caller has decided about. Default: 1 %.
    pub sample: Sample,
    /// Default: `sluice`.
    pub service_name: String,
}

/// Where operators and tenants ask. At least one of `address` and `socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// A loopback address, but with [`Self::tls`] and somebody to believe: tokens or a client CA.
    pub address: Option<SocketAddr>,
    /// A Unix socket, for its owner only.
    pub socket: Option<PathBuf>,
    /// Of [`Self::address`]. `None`: clear text, on the loopback.
    pub tls: Option<TlsConfig>,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether who comes from this machine needs a token too. Default: no.
    pub requires_token: bool,
}

/// Apps that stand in files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppsConfig {
    pub files: Vec<FilePattern>,
}

/// Reads and checks the file at `path`. Relative paths in it start at its folder.
///
/// # Errors
/// Everything that is wrong with it; that it cannot be read counts as one mistake.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let (name, text) = read(path)?;
    parse(&name, &text, &folder_of(path)?)
}

/// Checks the text of a configuration file. `name` is what mistakes give as its place, `base_dir`, an
/// absolute path, is where relative paths in it start. Looks at nothing but the text, except for two
/// defaults: the host's name and its number of cores.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str, base_dir: &Path) -> Result<Config, Mistakes> {
    Document::toml(name, text)?.read(|table| file::read_config(table, base_dir))
}

fn read(path: &Path) -> Result<(String, String), Mistakes> {
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Mistakes::one(&name.into(), None, format!("cannot be read: {error}"))),
    }
}

fn folder_of(path: &Path) -> Result<PathBuf, Mistakes> {
    let absolute = std::path::absolute(path).map_err(|error| {
        Mistakes::one(&path.display().to_string().into(), None, format!("cannot be located: {error}"))
    })?;
    Ok(absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

#[cfg(test)]
mod tests;
