//! The `[dns]` section.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use discovery::document::Table;
use ipnet::IpNet;
use topology::HostPattern;
use vip::eligibility::Thresholds;

use super::values::{file_path, socket_address};
use super::{GatewayConfig, VipSection};
use crate::dns::health::ProbePlan;
use crate::dns::rate::RateLimit;

/// One per network of a gateway.
const MAX_LISTEN: usize = 16;
/// Those of the largest zones on earth are 13.
const MAX_NAMESERVERS: usize = 13;
/// Of one name server, or of all apps that name none: what a datagram has room for.
const MAX_ADDRESSES: usize = 16;
const MAX_SECONDARIES: usize = 32;
const MAX_UPDATES: usize = 100;
const MAX_EXEMPT: usize = 100;
const DNS_PORT: u16 = 53;
/// Low, so that a lost address is forgotten soon; a resolver that serves a thousand clients asks twice a minute.
const DEFAULT_TTL: Duration = Duration::from_secs(30);
/// A deployed app is found this long after somebody looked for it too early.
const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(10);
const TTLS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// One resolver behind a /24 asks for one name once per TTL; twenty a second is a crowd of them. Floods that are worth it
/// are thousands.
const DEFAULT_RATE: RateLimit = RateLimit { responses: 20, total: 500, slip: 2 };
const MAX_RATE: u32 = 1_000_000;
const MAX_SLIP: u32 = 10;
const DEFAULT_RESYNC: Duration = Duration::from_secs(300);
const RESYNCS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);
const MAX_OWNER_BYTES: usize = 64;
const DEFAULT_OWNER: &str = "sluice";
const DEFAULT_PROBE: ProbePlan = ProbePlan {
    port: 443,
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    thresholds: Thresholds { rise: 2, fall: 3 },
};
const PROBE_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
const PROBE_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30);
const MAX_THRESHOLD: u32 = 100;

/// `[dns]`, checked but for its keys, which stand in files of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSection {
    /// Empty: nobody is answered; names go to other servers only.
    pub listen: Vec<SocketAddr>,
    /// Lower case.
    pub zone: String,
    /// Where homes of apps are: `gateway.base_domain` if that is in the zone, or the zone.
    pub homes: String,
    pub nameservers: Vec<NameserverConfig>,
    /// As a name.
    pub hostmaster: String,
    pub ttl: Duration,
    pub negative_ttl: Duration,
    /// Where apps are that name no virtual IP of their own.
    pub addresses: Vec<IpAddr>,
    /// Those of `[vip]`.
    pub virtual_ips: BTreeSet<IpAddr>,
    /// `None`: addresses that are no virtual IPs are good.
    pub probe: Option<ProbePlan>,
    /// `None`: answers are not limited.
    pub rate_limit: Option<RateLimit>,
    pub exempt: Vec<IpNet>,
    pub secondaries: Vec<SecondaryConfig>,
    pub updates: Vec<UpdateConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameserverConfig {
    pub name: String,
    /// Where its name is in the zone.
    pub addresses: Vec<IpAddr>,
}

/// At least one of `address` and `key_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondaryConfig {
    pub address: Option<SocketAddr>,
    pub key_file: Option<PathBuf>,
    /// Default: where there is an address.
    pub notify: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfig {
    pub server: SocketAddr,
    pub zone: String,
    pub key_file: PathBuf,
    /// Default: `sluice`.
    pub owner: String,
    /// Default: that of `[dns]`.
    pub ttl: Duration,
    /// Default: 5 min.
    pub resync: Duration,
}

/// `None` where there is none, or where it is wrong.
pub(super) fn read_dns(
    root: &Table<'_>,
    base: &Path,
    gateway: Option<&GatewayConfig>,
    vip: Option<&VipSection>,
) -> Option<DnsSection> {
    let table = root.table("dns")?;
    let listen = table.list("listen", MAX_LISTEN, listen_address).unwrap_or_default();
    table.refuse_empty("listen", "name an address, or leave it out to answer nobody");
    let zone = table.parsed("zone", domain);
    let zone = table.required("zone", zone, "zone = \"apps.example.com\"");
    let ttl = table.duration("ttl", TTLS).unwrap_or(DEFAULT_TTL);
    let negative_ttl = table.duration("negative_ttl", TTLS).unwrap_or(DEFAULT_NEGATIVE_TTL);
    let hostmaster = table.parsed("hostmaster", hostmaster);
    let nameservers = read_nameservers(&table, zone.as_deref());
    let virtual_ips: BTreeSet<_> = vip.into_iter().flat_map(VipSection::ips).collect();
    let shared: Vec<_> = vip.into_iter().flat_map(VipSection::shared).collect();
    let addresses = read_addresses(&table, shared);
    let probe = read_probe(&table);
    let (rate_limit, exempt) = read_rate_limit(&table);
    let secondaries = read_secondaries(&table, base);
    let updates = read_updates(&table, base, ttl);
    if table.has("listen") {
        let example = "[[dns.nameserver]] with name = \"ns1.example.com\": where this zone is delegated to";
        table.required("nameserver", table.has("nameserver").then_some(()), example);
        table.refuse_empty("nameserver", "write a [[dns.nameserver]] section with a name");
    } else if !table.has("update") {
        table.mistake_here("does nothing: add listen = [\"192.0.2.1:53\"] to answer, or a [[dns.update]] section to write to another server");
    } else if table.has("secondary") {
        table.mistake("secondary", "has nobody to ask: add listen = [\"192.0.2.1:53\"], or remove it");
    }
    check_listeners(&table, &listen, gateway);
    table.finish();
    let zone = zone?;
    let base_domain = gateway.and_then(|gateway| gateway.base_domain.clone());
    let homes = base_domain.filter(|base| is_within(base, &zone)).unwrap_or_else(|| zone.clone());
    Some(DnsSection {
        listen,
        homes,
        nameservers,
        hostmaster: hostmaster.unwrap_or_else(|| format!("hostmaster.{zone}")),
        zone,
        ttl,
        negative_ttl,
        addresses,
        virtual_ips,
        probe: probe?,
        rate_limit,
        exempt,
        secondaries,
        updates,
    })
}

/// Whether `name` is `zone` or below it.
fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, DNS_PORT),
        Err(_) => socket_address(text).map_err(|_| {
            format!("{text:?} is no address; write IP:port or an IP, such as \"192.0.2.1:53\"")
        })?,
    };
    if address.ip().is_unspecified() {
        return Err(format!(
            "{text:?} is every address of this host: answers would leave by whichever the kernel picks, and resolvers would \
             not take them; name each address, such as [\"192.0.2.1:53\"]"
        ));
    }
    Ok(address)
}

fn domain(text: &str) -> Result<String, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) if !name.starts_with('[') && name.parse::<IpAddr>().is_err() => {
            Ok(name.to_string())
        }
        _ => Err("is no domain; write a name such as apps.example.com".to_owned()),
    }
}

/// RFC 1035 section 8: the first dot stands for the at sign.
fn hostmaster(text: &str) -> Result<String, String> {
    let message = || "is no mailbox; write one such as \"hostmaster@example.com\"".to_owned();
    let (local, host) = text.split_once('@').ok_or_else(message)?;
    if local.is_empty() || local.contains(['.', '\\', '"']) || local.len() > 63 {
        return Err("has a dot before its @, which no SOA record shows; write one without".to_owned());
    }
    domain(&format!("{local}.{host}")).map_err(|_| message())
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    let message =
        || format!("{text:?} is no address; write one such as \"192.0.2.1\", without port and prefix");
    text.parse::<IpAddr>()
        .map_err(|_| message())
        .and_then(|ip| if ip.is_unspecified() || ip.is_multicast() { Err(message()) } else { Ok(ip) })
}

fn server_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text
            .parse()
            .map_err(|_| format!("{text:?} is no address; write IP or IP:port, such as \"192.0.2.53\"")),
    }
}

fn read_nameservers(table: &Table<'_>, zone: Option<&str>) -> Vec<NameserverConfig> {
    let mut nameservers: Vec<NameserverConfig> = Vec::new();
    for section in table.tables("nameserver", MAX_NAMESERVERS) {
        let name = section.parsed("name", domain);
        let name = section.required("name", name, "name = \"ns1.example.com\"");
        let addresses = section.list("addresses", MAX_ADDRESSES, ip_address).unwrap_or_default();
        if let (Some(name), Some(zone)) = (&name, zone) {
            match (is_within(name, zone), addresses.is_empty() && !section.has("addresses")) {
                (true, true) => section.mistake(
                    "addresses",
                    format!("are missing: {name} is in the zone, and nobody else says where it is; write [\"192.0.2.1\"]"),
                ),
                (false, false) => section.mistake(
                    "addresses",
                    format!("belong to whoever has the zone of {name}; remove them here"),
                ),
                _ => {}
            }
            if name == zone {
                section.mistake(
                    "name",
                    "is the zone's own, at which apps may be; write one such as ns1 below it",
                );
            }
            if nameservers.iter().any(|known| known.name == *name) {
                section.mistake("name", format!("{name} is named twice; remove one of the two"));
            }
        }
        section.finish();
        nameservers.extend(name.map(|name| NameserverConfig { name, addresses }));
    }
    nameservers
}

/// `shared`: virtual IPs that are nobody's own.
fn read_addresses(table: &Table<'_>, shared: Vec<IpAddr>) -> Vec<IpAddr> {
    let addresses = table.list("addresses", MAX_ADDRESSES, ip_address);
    table.refuse_empty("addresses", "name an address, or leave it out for those of [[vip.address]]");
    if addresses.is_none() && !table.has("addresses") {
        if shared.is_empty() || shared.len() > MAX_ADDRESSES {
            table.mistake(
                "addresses",
                "are missing: where do names lead? Write those at which clients reach the gateways, such as [\"192.0.2.10\"]",
            );
        }
        return shared;
    }
    let mut addresses = addresses.unwrap_or_default();
    let mut seen = BTreeSet::new();
    addresses.retain(|ip| seen.insert(*ip));
    addresses
}

/// The outer `None`: it is wrong.
fn read_probe(table: &Table<'_>) -> Option<Option<ProbePlan>> {
    if !table.has("probe") {
        return Some(None);
    }
    let section = table.table("probe")?;
    let count = |key, default| section.integer(key, 1..=MAX_THRESHOLD).unwrap_or(default);
    let ProbePlan { port, interval, timeout, thresholds } = DEFAULT_PROBE;
    let plan = ProbePlan {
        port: section.integer("port", 1..=u16::MAX).unwrap_or(port),
        interval: section.duration("interval", PROBE_INTERVALS).unwrap_or(interval),
        timeout: section.duration("timeout", PROBE_TIMEOUTS).unwrap_or(timeout),
        thresholds: Thresholds { rise: count("rise", thresholds.rise), fall: count("fall", thresholds.fall) },
    };
    section.finish();
    Some(Some(plan))
}

fn read_rate_limit(table: &Table<'_>) -> (Option<RateLimit>, Vec<IpNet>) {
    if table.has("rate_limit") && !table.is_table("rate_limit") {
        let is_on = table.switch("rate_limit").unwrap_or(true);
        return (is_on.then_some(DEFAULT_RATE), Vec::new());
    }
    let Some(section) = table.table("rate_limit") else { return (Some(DEFAULT_RATE), Vec::new()) };
    let responses = section.integer("responses", 1..=MAX_RATE);
    let total = section.integer("total", 1..=MAX_RATE);
    let slip = section.integer("slip", 0..=MAX_SLIP).unwrap_or(DEFAULT_RATE.slip);
    let exempt = section.list("exempt", MAX_EXEMPT, network).unwrap_or_default();
    let responses = responses.unwrap_or(DEFAULT_RATE.responses);
    let total = total.unwrap_or(DEFAULT_RATE.total.max(responses));
    if total < responses {
        section.mistake("total", format!("is less than responses; write at least {responses}"));
    }
    section.finish();
    (Some(RateLimit { responses, total, slip }), exempt)
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: IpAddr| ip.into()));
    let message = || format!("{text:?} is no network; write an address or one such as 10.0.0.0/8");
    network.map(|network| network.trunc()).map_err(|_| message())
}

fn read_secondaries(table: &Table<'_>, base: &Path) -> Vec<SecondaryConfig> {
    let mut secondaries = Vec::new();
    for section in table.tables("secondary", MAX_SECONDARIES) {
        let address = section.parsed("address", server_address);
        let key_file = section.parsed("key_file", |text| file_path(base, text));
        let notify = section.boolean("notify");
        if !section.has("address") && !section.has("key_file") {
            section.mistake(
                "address",
                "is missing: who is it? Write address = \"192.0.2.53\", key_file = \"transfer.key\", or both",
            );
        }
        if notify == Some(true) && !section.has("address") {
            section.mistake("notify", "needs to know where; add address = \"192.0.2.53\"");
        }
        section.finish();
        secondaries.push(SecondaryConfig { address, key_file, notify: notify.unwrap_or(address.is_some()) });
    }
    secondaries
}

fn read_updates(table: &Table<'_>, base: &Path, ttl: Duration) -> Vec<UpdateConfig> {
    let mut updates: Vec<UpdateConfig> = Vec::new();
    for section in table.tables("update", MAX_UPDATES) {
        let server = section.parsed("server", server_address);
        let server = section.required("server", server, "server = \"192.0.2.53\", the primary of the zone");
        let zone = section.parsed("zone", domain);
        let zone = section.required("zone", zone, "zone = \"example.com\"");
        let key_file = section.parsed("key_file", |text| file_path(base, text));
        let example = "key_file = \"update.key\", with what `tsig-keygen sluice` prints";
        let key_file = section.required("key_file", key_file, example);
        let owner = section.parsed("owner", owner).unwrap_or_else(|| DEFAULT_OWNER.to_owned());
        let ttl = section.duration("ttl", TTLS).unwrap_or(ttl);
        let resync = section.duration("resync", RESYNCS).unwrap_or(DEFAULT_RESYNC);
        if let Some(zone) = zone.as_ref().filter(|zone| updates.iter().any(|known| known.zone == **zone)) {
            section.mistake("zone", format!("{zone} has a section already; write to its primary only"));
        }
        section.finish();
        if let (Some(server), Some(zone), Some(key_file)) = (server, zone, key_file) {
            updates.push(UpdateConfig { server, zone, key_file, owner, ttl, resync });
        }
    }
    updates
}

fn owner(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=MAX_OWNER_BYTES).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("is no owner; write 1 to {MAX_OWNER_BYTES} of a-z A-Z 0-9 . _ -"))
}

fn check_listeners(table: &Table<'_>, listen: &[SocketAddr], gateway: Option<&GatewayConfig>) {
    for (at, address) in listen.iter().enumerate().filter(|(_, address)| address.port() != 0) {
        let mut listeners = gateway.into_iter().flat_map(|gateway| &gateway.listeners);
        if let Some(taken) = listeners.find(|listener| listener.address == *address) {
            table.mistake("listen", format!("{address} is the address of listener {:?}", &*taken.name));
        }
        if listen[..at].contains(address) {
            table.mistake("listen", format!("{address} is named twice; remove one of the two"));
        }
    }
}

#[cfg(test)]
mod tests;
