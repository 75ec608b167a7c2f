//! The file's sections and keys.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use discovery::document::Table;
use discovery::file::FilePattern;
use discovery::spec::filters::read_rate_limits;
use discovery::spec::parse_zone;
use ipnet::IpNet;
use topology::{AppId, HostPattern};

use super::access_log::read_access_log;
use super::admin::read_admin;
use super::app_ports::read_app_ports;
use super::deploying::read_deploy;
use super::dns::read_dns;
use super::handover::{DEFAULT_HANDOVER_DRAIN, MAX_HANDOVER_DRAIN, handover_path};
use super::limits::read_general;
use super::listener::read_listeners;
use super::observing::{read_statistics, read_tracing};
use super::registry::read_registry;
use super::tenants::read_tenants;
use super::tls::read_upstream_tls;
use super::values::{MAX_PATTERNS, file_path};
use super::virtual_ips::read_vip;
use super::{AppsConfig, Config, GatewayConfig};

/// Gateways that probe one endpoint: with more of them, nothing is saved.
const MAX_SHARED_PROBES: usize = 16;
/// More than a gateway has endpoints.
const MAX_PROBE_CONNECTIONS: usize = 10_000_000;
/// More workers than cores only take turns, and no machine that we know has more cores.
const MAX_WORKERS: usize = 256;
/// The published ranges of the largest content delivery networks fit.
const MAX_TRUSTED_PROXIES: usize = 1_000;
/// Exceptions, each compared in turn.
const MAX_JWKS_NETWORKS: usize = 64;
/// What process supervisors grant between SIGTERM and SIGKILL (systemd 90 s, Kubernetes 30 s).
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest download that anybody would wait for.
const MAX_DRAIN_TIMEOUT: Duration = Duration::from_secs(3600);

/// `None` when a mistake was reported that leaves no configuration to return.
pub(super) fn read_config(root: Table<'_>, base: &Path) -> Option<Config> {
    let registry = read_registry(&root, base);
    let mut gateway = read_gateway(&root, base);
    let admin = read_admin(&root, base, gateway.as_ref().map_or(&[], |gateway| &gateway.listeners));
    let apps = read_apps(&root, base);
    let (id, listeners) =
        gateway.as_ref().map_or((None, &[][..]), |gateway| (Some(&*gateway.id), &gateway.listeners));
    let deploy = read_deploy(&root, base, id, listeners, admin.as_ref());
    let vip = read_vip(&root, base, gateway.as_mut());
    let dns = read_dns(&root, base, gateway.as_ref(), vip.as_ref());
    let is_read = (vip.is_some() || !root.has("vip")) && (dns.is_some() || !root.has("dns"));
    root.finish();
    if !is_read {
        return None;
    }
    let (registry, registry_keys, belief) = registry?;
    Some(Config { registry, registry_keys, belief, gateway: gateway?, admin, deploy, apps, vip, dns })
}

fn read_gateway(root: &Table<'_>, base: &Path) -> Option<GatewayConfig> {
    let table = root.required("gateway", root.table("gateway"), "a [gateway] section with a listener")?;
    let id = match table.has("id") {
        true => table.parsed("id", gateway_id),
        false => default_id(&table),
    };
    let workers = table.integer("workers", 1..=MAX_WORKERS);
    let base_domain = table.parsed("base_domain", base_domain);
    let trusted_proxies = table.list("trusted_proxies", MAX_TRUSTED_PROXIES, network).unwrap_or_default();
    let jwks_networks = table.list("jwks_networks", MAX_JWKS_NETWORKS, network).unwrap_or_default();
    let zone = table.parsed("zone", parse_zone);
    let sticky_key_file = table.parsed("sticky_key_file", |text| file_path(base, text));
    let shared_probes = table.integer("shared_probes", 1..=MAX_SHARED_PROBES);
    let probe_connections = table.integer("probe_connections", 0..=MAX_PROBE_CONNECTIONS);
    let (limits, max_buffers) = read_general(&table);
    let listeners = read_listeners(&table, base, &limits);
    let limits = Arc::new(limits);
    let app_ports = read_app_ports(&table);
    let upstream_tls = read_upstream_tls(&table, base);
    let tenants = read_tenants(&table);
    let rate_limits = read_rate_limits(&table, "rate_limits", true);
    let access_log = read_access_log(&table, base);
    let statistics = read_statistics(&table);
    let tracing = read_tracing(&table);
    let drain_delay = table.duration("drain_delay", Duration::ZERO..=MAX_DRAIN_TIMEOUT);
    let drain_timeout = table.duration("drain_timeout", Duration::ZERO..=MAX_DRAIN_TIMEOUT);
    let handover = table.parsed("handover", |text| handover_path(base, text));
    let handover_drain = table.duration("handover_drain_timeout", Duration::ZERO..=MAX_HANDOVER_DRAIN);
    table.finish();
    Some(GatewayConfig {
        id: id?,
        workers: workers.unwrap_or_else(default_workers),
        base_domain,
        trusted_proxies,
        jwks_networks,
        zone,
        sticky_key_file,
        shared_probes,
        probe_connections,
        listeners,
        app_ports,
        limits,
        upstream_tls,
        tenants,
        max_buffers,
        rate_limits,
        access_log,
        statistics,
        tracing,
        drain_delay: drain_delay.unwrap_or_default(),
        drain_timeout: drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
        handover,
        handover_drain_timeout: handover_drain.unwrap_or(DEFAULT_HANDOVER_DRAIN),
    })
}

fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)
}

/// The same alphabet as an app's id: it becomes a registry key and a metric label too.
fn gateway_id(text: &str) -> Result<String, String> {
    match AppId::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("is no gateway id; write 1 to 128 of a-z A-Z 0-9 . _ -, not starting with a dot".to_owned())
        }
    }
}

fn default_id(table: &Table<'_>) -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let id = gateway_id(name.trim()).ok();
    if id.is_none() {
        table.mistake("id", "is missing, and the host's name is none; write id = \"gw-1\"");
    }
    id
}

fn base_domain(text: &str) -> Result<String, String> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) if !is_address && !name.starts_with('[') => Ok(name.to_string()),
        _ => Err("is no domain; write a name such as apps.example.com".to_owned()),
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network =
        text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    let network = network.map_err(|_| {
        format!("{text:?} is no network; write an address or a network such as 10.0.0.0/8 or 2001:db8::/32")
    })?;
    Ok(network.trunc())
}

pub(super) fn read_apps(root: &Table<'_>, base: &Path) -> AppsConfig {
    let Some(table) = root.table("apps") else { return AppsConfig::default() };
    let files = table.list("files", MAX_PATTERNS, |text| FilePattern::parse(base, text));
    let files = table.required("files", files, "files = [\"apps/*.toml\"]").unwrap_or_default();
    table.finish();
    AppsConfig { files }
}
