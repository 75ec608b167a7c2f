//! The `[vip]` section. What its values must be to each other is [`vip::config`]'s to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use discovery::document::Table;
use ipnet::IpNet;
use topology::HostPattern;
use vip::config::{AddressSettings, Fence, MIN_KEY_BYTES, Mistake, Mode, Settings, VipConfig};
use vip::eligibility::Thresholds;

use super::file::network;
use super::values::{file_path, label, socket_address};
use super::{GatewayConfig, ListenerConfig, ListenerProtocol};
use crate::listener::Presence;
use crate::listener::proxy_protocol;

/// Of the durations whose limits [`vip::config`] knows.
const ANY: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
/// Just above what [`vip::config`] refuses by name.
const MAX_ADDRESSES: usize = 4_096;
/// Of one network of the pool: as many as a gateway may have addresses.
const MAX_POOL: u64 = 256;
/// Of one address: more than any fleet has that shares one link.
const MAX_GATEWAYS: usize = 1_000;
const MAX_WEIGHT: u32 = 1_000;
/// Beside three failures in a row this finds a data path that hangs within seconds; and it is a line in the
/// access log each time.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Our own answer takes a millisecond; an overloaded worker may take longer and is still the best one there is.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(30);
/// As those of health checks: one good answer is luck, three bad ones are none.
const DEFAULT_THRESHOLDS: Thresholds = Thresholds { rise: 2, fall: 3 };
const MAX_THRESHOLD: u32 = 100;
const MAX_PATH_BYTES: usize = 1_024;

/// `[vip]`, checked but for the key, which stands in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipSection {
    /// Without its key.
    settings: Settings,
    /// Of its addresses, those that apps may ask for.
    pool: Vec<IpAddr>,
    pub peer_key_file: Option<PathBuf>,
    /// `None`: the data path is not probed.
    pub probe: Option<ProbeConfig>,
}

/// The request through the gateway's own data path that makes it eligible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// A plain HTTP listener at an address that is always here.
    pub listener: Arc<str>,
    /// Whose answer below 500 is a good one. `None`: a name that hardly anybody has; any answer is good, since it is ours.
    pub host: Option<Arc<str>>,
    pub path: Arc<str>,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

impl VipSection {
    /// With the key from its file.
    ///
    /// # Errors
    /// That the file cannot be read or the key is too short, naming both.
    pub fn build(&self) -> Result<VipConfig, String> {
        let mut settings = self.settings.clone();
        if let Some(path) = &self.peer_key_file {
            let told = |why: String| format!("vip.peer_key_file: {}: {why}", path.display());
            let key = std::fs::read(path).map_err(|error| told(format!("cannot be read: {error}")))?;
            if key.len() < MIN_KEY_BYTES {
                let given = key.len();
                return Err(told(format!(
                    "holds {given} bytes; write at least {MIN_KEY_BYTES} random ones, such as of `openssl rand -hex 32`, \
                     the same on every gateway"
                )));
            }
            settings.peer_key = key;
        }
        settings
            .build()
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.settings.addresses.iter().map(|address| address.ip)
    }

    /// Those that no app can ask for.
    pub fn shared(&self) -> impl Iterator<Item = IpAddr> {
        self.ips().filter(|ip| !self.pool.contains(ip))
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.settings.addresses.iter().any(|address| address.ip == ip)
    }
}

/// `None` where there is none, or where it is wrong. Listeners at a virtual IP need not have it.
pub(super) fn read_vip(
    root: &Table<'_>,
    base: &Path,
    gateway: Option<&mut GatewayConfig>,
) -> Option<VipSection> {
    let table = root.table("vip")?;
    let peer_key_file = table.parsed("peer_key_file", |text| file_path(base, text));
    let mut settings = read_settings(&table);
    let sections = table.tables("address", MAX_ADDRESSES);
    let pool = read_pool(&table);
    let has_any = table.has("address") || table.has("pool");
    table.required("address", has_any.then_some(()), "a [[vip.address]] section with an ip");
    table.refuse_empty("address", "write a [[vip.address]] section with an ip");
    // With the section that each stands in: one that cannot be read has been reported.
    let read = sections.iter().filter_map(|section| Some((read_address(section)?, section)));
    let (addresses, places): (Vec<_>, Vec<_>) = read.unzip();
    settings.addresses = addresses;
    let of_pool = |ip| AddressSettings { ip, ..AddressSettings::default() };
    settings.addresses.extend(pool.iter().copied().map(of_pool));
    let peers = settings.mode == Mode::Peer;
    if peers {
        let example = "peer_key_file = \"peer.key\", with at least 32 random bytes, or mode = \"registry\"";
        table.required("peer_key_file", peer_key_file.as_ref(), example);
    }
    // Judged by the rest of it; the key itself when it is read.
    let judged = Settings { peer_key: vec![0; MIN_KEY_BYTES], ..settings.clone() };
    let mistakes = judged.build().err().unwrap_or_default();
    let is_good = mistakes.is_empty() && (peer_key_file.is_some() || !peers);
    mistakes.iter().for_each(|mistake| report(mistake, &table, &places));
    sections.into_iter().for_each(Table::finish);
    let is_virtual = |listener: &ListenerConfig| {
        settings.addresses.iter().any(|address| address.ip == listener.address.ip())
    };
    let listeners = gateway.as_ref().map(|gateway| gateway.listeners.as_slice());
    let probe = read_probe(&table, listeners, is_virtual);
    for listener in gateway.into_iter().flat_map(|gateway| &mut gateway.listeners) {
        if is_virtual(listener) {
            listener.presence = Presence::Optional;
        }
    }
    table.finish();
    is_good.then_some(VipSection { settings, pool, peer_key_file, probe: probe? })
}

/// Addresses for apps to ask for, each by itself.
fn read_pool(table: &Table<'_>) -> Vec<IpAddr> {
    let networks = table.list("pool", MAX_ADDRESSES, |text| {
        let network = network(text)?;
        let count =
            1u64.checked_shl(u32::from(network.max_prefix_len() - network.prefix_len())).unwrap_or(u64::MAX);
        let fits = count <= MAX_POOL;
        fits.then_some(network)
            .ok_or_else(|| format!("{text:?} has more than {MAX_POOL} addresses, and each is held by itself"))
    });
    table.refuse_empty("pool", "write pool = [\"10.0.0.208/29\"], or leave it out");
    networks.into_iter().flatten().flat_map(all_of).collect()
}

/// The first and the last one too: they are host addresses, and no network of their own.
fn all_of(network: IpNet) -> Vec<IpAddr> {
    match network {
        IpNet::V4(network) => {
            let (first, last) = (u32::from(network.network()), u32::from(network.broadcast()));
            (first..=last).map(|ip| Ipv4Addr::from(ip).into()).collect()
        }
        IpNet::V6(network) => {
            let (first, last) = (u128::from(network.network()), u128::from(network.broadcast()));
            (first..=last).map(|ip| Ipv6Addr::from(ip).into()).collect()
        }
    }
}

fn read_settings(table: &Table<'_>) -> Settings {
    let default = Settings::default();
    let interface = table.text("interface");
    let interface = table.required("interface", interface, "interface = \"eth0\"").unwrap_or("eth0");
    let duration = |key, default| table.duration(key, ANY).unwrap_or(default);
    Settings {
        interface: interface.to_owned(),
        lease: duration("lease", default.lease),
        grace: table.duration("grace", ANY),
        registry_lease: duration("registry_lease", default.registry_lease),
        hold_max: duration("hold_max", default.hold_max),
        mode: table
            .choice("mode", &[("peer", Mode::Peer), ("registry", Mode::Registry)])
            .unwrap_or(default.mode),
        fence: table
            .choice("fence", &[("nft", Fence::Nft), ("lifetime", Fence::Lifetime), ("none", Fence::None)])
            .unwrap_or(default.fence),
        force: table.boolean("force").unwrap_or(default.force),
        peer_listen: read_peer_listen(table),
        peer_key: Vec::new(),
        preempt: table.boolean("preempt").unwrap_or(default.preempt),
        rebalance_every: duration("rebalance_every", default.rebalance_every),
        announce_refresh: duration("announce_refresh", default.announce_refresh),
        addresses: Vec::new(),
    }
}

/// One that is written wrongly has been reported; it is not missing besides.
fn read_peer_listen(table: &Table<'_>) -> Option<SocketAddr> {
    let read = table.parsed("peer_listen", socket_address);
    let unread = || SocketAddr::from(([127, 0, 0, 1], 0));
    read.or_else(|| table.has("peer_listen").then(unread))
}

fn read_address(section: &Table<'_>) -> Option<AddressSettings> {
    let ip = section.parsed("ip", |text| {
        let message =
            || format!("{text:?} is no address; write one such as \"10.0.0.200\", without a prefix length");
        text.parse::<IpAddr>().map_err(|_| message())
    });
    let ip = section.required("ip", ip, "ip = \"10.0.0.200\"");
    let gateways = section.list("gateways", MAX_GATEWAYS, |text| Ok::<_, String>(text.to_owned()));
    let weight = section.integer("weight", 1..=MAX_WEIGHT);
    Some(AddressSettings { ip: ip?, gateways: gateways.unwrap_or_default(), weight: weight.unwrap_or(1) })
}

/// At the key that it is about.
fn report(mistake: &Mistake, table: &Table<'_>, sections: &[&Table<'_>]) {
    const KEYS: [&str; 12] = [
        "interface",
        "lease",
        "grace",
        "registry_lease",
        "hold_max",
        "fence",
        "peer_listen",
        "peer_key_file",
        "rebalance_every",
        "announce_refresh",
        "address",
        "mode",
    ];
    const OF_ADDRESS: [&str; 3] = ["ip", "gateways", "weight"];
    let problem = mistake.problem.as_str();
    let in_section = mistake.key.strip_prefix("address[").and_then(|rest| rest.split_once("]."));
    let section = in_section.and_then(|(at, key)| Some((sections.get(at.parse::<usize>().ok()?)?, key)));
    if let Some((section, key)) = section {
        let key = OF_ADDRESS.into_iter().find(|known| *known == key);
        return section.mistake(key.unwrap_or("ip"), problem);
    }
    match KEYS.into_iter().find(|known| *known == mistake.key) {
        Some(key) => table.mistake(key, problem),
        None => table.mistake_here(mistake.to_string()),
    }
}

/// The outer `None`: it cannot be as it is.
fn read_probe(
    table: &Table<'_>,
    listeners: Option<&[ListenerConfig]>,
    is_virtual: impl Fn(&ListenerConfig) -> bool,
) -> Option<Option<ProbeConfig>> {
    let section = table.table("probe");
    if section.is_none() && table.has("probe") {
        return None;
    }
    let enabled = section.as_ref().and_then(|section| section.boolean("enabled")).unwrap_or(true);
    let wanted = section.as_ref().and_then(|section| section.parsed("listener", label));
    let host = section.as_ref().and_then(|section| section.parsed("host", host));
    let path = section.as_ref().and_then(|section| section.parsed("path", path));
    let duration = |key, range, default| {
        section.as_ref().and_then(|section| section.duration(key, range)).unwrap_or(default)
    };
    let count = |key, default| {
        section.as_ref().and_then(|section| section.integer(key, 1..=MAX_THRESHOLD)).unwrap_or(default)
    };
    let probe = |listener: Arc<str>| ProbeConfig {
        listener,
        host: host.clone(),
        path: path.clone().unwrap_or_else(|| "/".into()),
        interval: duration("interval", INTERVALS, DEFAULT_INTERVAL),
        timeout: duration("timeout", TIMEOUTS, DEFAULT_TIMEOUT),
        thresholds: Thresholds {
            rise: count("rise", DEFAULT_THRESHOLDS.rise),
            fall: count("fall", DEFAULT_THRESHOLDS.fall),
        },
    };
    let fits = |listener: &&ListenerConfig| {
        let plain = matches!(listener.protocol, ListenerProtocol::Http { tls: None, .. });
        plain && listener.proxy_protocol != proxy_protocol::Mode::Required && !is_virtual(listener)
    };
    // Read in any case, so that every key is known and every mistake told.
    let with = probe(wanted.clone().unwrap_or_default());
    let found = match (enabled, listeners) {
        (false, _) => Some(None),
        // What is wrong with the listeners is told elsewhere.
        (true, None) => None,
        (true, Some(listeners)) => {
            let is_meant =
                |listener: &&ListenerConfig| wanted.as_ref().is_none_or(|wanted| *wanted == listener.name);
            let found = listeners.iter().filter(is_meant).find(fits);
            if found.is_none() {
                refuse_probe(table, section.as_ref(), wanted.as_deref());
            }
            found.map(|listener| Some(ProbeConfig { listener: listener.name.clone(), ..with }))
        }
    };
    section.into_iter().for_each(Table::finish);
    found
}

fn refuse_probe(table: &Table<'_>, section: Option<&Table<'_>>, wanted: Option<&str>) {
    let needed = "a listener with protocol = \"http\", without tls, without proxy_protocol = \"required\", and not at a \
                  virtual IP, such as one at 127.0.0.1:8081";
    match (section, wanted) {
        (Some(section), Some(name)) => {
            section.mistake("listener", format!("{name:?} cannot be probed; name {needed}"));
        }
        _ => table.mistake(
            "probe",
            format!(
                "finds no listener to send a request through; add {needed}, or probe = {{ enabled = false }}"
            ),
        ),
    }
}

fn host(text: &str) -> Result<Arc<str>, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) => Ok(name.to_string().into()),
        _ => Err("is no host; write a name such as shop.example.com".to_owned()),
    }
}

fn path(text: &str) -> Result<Arc<str>, String> {
    let allowed = text.len() <= MAX_PATH_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_path = text.starts_with('/') && allowed && !text.contains('#');
    let message = || format!("is no path; write one such as \"/_ping\", at most {MAX_PATH_BYTES} bytes");
    is_path.then(|| text.into()).ok_or_else(message)
}

#[cfg(test)]
mod tests;
