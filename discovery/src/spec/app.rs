//! The keys that files and the registry share.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use topology::{AppSpec, AppTls, HostPattern, PathMatch, ProxyVersion, Split, VersionId};

use super::balance::read_balance;
use super::containment::read_containment;
use super::filters::{Place, read_filters};
use super::health::read_health;
use super::limits::read_limits;
use super::log::read_log;
use super::matching::read_matches;
use super::port::read_ports;
use super::retries::{read_hedge, read_retries};
use super::statistics::read_statistics;
use super::sticky::read_sticky;
use super::timeouts::read_timeouts;
use crate::document::Table;

/// The largest app known to us claims some 300 customer domains.
pub(super) const MAX_HOSTS: usize = 1_000;
/// More addresses than one answer in a datagram has room for.
const MAX_VIPS: usize = 16;
/// As many as hosts: each pair becomes a route.
pub(super) const MAX_PATHS: usize = 1_000;
/// More listeners than any gateway has.
const MAX_LISTENERS: usize = 100;
/// More versions than anybody can watch at once.
const MAX_SPLIT: usize = 100;
const MAX_LISTENER_NAME_BYTES: usize = 64;
/// IANA's registry of upgrade tokens has fewer.
const MAX_UPGRADES: usize = 16;
/// A profile's name is as long as a listener's.
const MAX_PROFILE_NAME_BYTES: usize = 64;

/// `None` when a mistake was reported that leaves no spec to return.
pub(super) fn read_spec(table: &Table<'_>, place: Place<'_>) -> Option<AppSpec> {
    let hosts = table.list("hosts", MAX_HOSTS, HostPattern::parse).map(distinct).unwrap_or_default();
    let vips = table.list("vips", MAX_VIPS, vip).map(distinct);
    table.refuse_empty("vips", "name a virtual IP, or leave it out for those that all apps share");
    let paths = table.list("paths", MAX_PATHS, PathMatch::parse).map(distinct);
    table.refuse_empty("paths", "write [\"/\"], or leave it out, to take every path");
    let ports = read_ports(table);
    let listeners = read_listeners(table);
    let split = read_split_at(table);
    let balance = read_balance(table).unwrap_or_default();
    let sticky = read_sticky(table);
    let (health, probing) = read_health(table);
    let proxy_protocol =
        table.choice("proxy_protocol", &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)]);
    let connect = table.boolean("connect");
    let upgrades = table.list("upgrades", MAX_UPGRADES, upgrade).map(distinct);
    let tls = read_tls(table);
    let client_certificate = table.choice("client_certificate", &[("required", true)]);
    let https_only = table.boolean("https_only");
    let timeouts = read_timeouts(table);
    let retries = read_retries(table);
    let hedge = read_hedge(table);
    let log = read_log(table);
    let statistics = read_statistics(table);
    let matches = read_matches(table);
    let filters = read_filters(table, place, matches.as_deref().unwrap_or_default());
    let (limits, capacity) = read_limits(table);
    let containment = read_containment(table, capacity);
    Some(AppSpec {
        hosts,
        ports,
        vips: vips.map(Arc::from),
        paths: paths.unwrap_or_else(|| vec![PathMatch::all()]),
        listeners,
        split,
        balance,
        sticky: sticky.map(Arc::new),
        health: health.map(Arc::new),
        probing,
        proxy_protocol,
        connect: connect.unwrap_or(false),
        upgrades,
        tls: tls.map(Arc::new),
        requires_client_certificate: client_certificate.unwrap_or_default(),
        https_only: https_only.unwrap_or_default(),
        matches,
        timeouts: timeouts.map(Arc::new),
        retries: retries.map(Arc::new),
        hedge: hedge.map(Arc::new),
        log,
        statistics,
        filters,
        limits,
        containment,
    })
}

fn vip(text: &str) -> Result<IpAddr, String> {
    let message =
        || format!("{text:?} is no address; write one such as \"10.0.0.200\", without a prefix length");
    text.parse::<IpAddr>().map_err(|_| message())
}

pub(super) fn read_listeners(table: &Table<'_>) -> Option<Vec<Arc<str>>> {
    let listeners = table.list("listeners", MAX_LISTENERS, |name| {
        if (1..=MAX_LISTENER_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control) {
            Ok(Arc::<str>::from(name))
        } else {
            Err(format!("is no listener's name; write 1 to {MAX_LISTENER_NAME_BYTES} characters"))
        }
    })?;
    table.refuse_empty("listeners", "name a listener, or leave it out for every HTTP listener");
    Some(distinct(listeners))
}

fn read_tls(spec: &Table<'_>) -> Option<AppTls> {
    let table = spec.table("tls")?;
    let profile = table.parsed("profile", |name| {
        let is_name = (1..=MAX_PROFILE_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control);
        let message = || format!("is no profile's name; write 1 to {MAX_PROFILE_NAME_BYTES} characters");
        is_name.then(|| Arc::from(name)).ok_or_else(message)
    });
    let example = "profile = \"internal\", the name of a [[gateway.upstream_tls]] section";
    let profile = table.required("profile", profile, example);
    let server_name = table.parsed("server_name", |name| match HostPattern::parse(name) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        _ => Err("is no name that a certificate can prove; write shop.internal, or an IP address"),
    });
    table.finish();
    Some(AppTls { profile: profile?, server_name })
}

/// The `split` of an app or of one of its matches.
pub(super) fn read_split_at(table: &Table<'_>) -> Option<Split> {
    let shares = table.table("split")?;
    if shares.names().len() > MAX_SPLIT {
        table.mistake("split", format!("has {} versions; the limit is {MAX_SPLIT}", shares.names().len()));
        return None;
    }
    let mut split = Vec::with_capacity(shares.names().len());
    let mut whole = true;
    for name in shares.names() {
        let share = shares.integer::<u16>(name, 0..=u16::MAX);
        let version = VersionId::parse(name).map_err(|error| shares.mistake(name, error.to_string()));
        match (version, share) {
            (Ok(version), Some(share)) => split.push((version, share)),
            _ => whole = false,
        }
    }
    if !whole {
        return None;
    }
    Split::new(split).map_err(|error| table.mistake("split", error.to_string())).ok()
}

fn upgrade(token: &str) -> Result<Arc<str>, String> {
    let token = token.to_ascii_lowercase();
    let is_token = (1..=64).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte));
    match token.as_str() {
        "h2c" => {
            Err("cannot be allowed: HTTP/2 in clear text is spoken by prior knowledge only; remove it".into())
        }
        name if name.starts_with("tls/") => Err("cannot be allowed: TLS is the listener's; remove it".into()),
        _ if is_token => Ok(token.into()),
        _ => Err("is no protocol; write a token such as websocket".into()),
    }
}

/// The first of each, in the order given.
pub(super) fn distinct<T: Clone + Eq + Hash>(mut values: Vec<T>) -> Vec<T> {
    if values.len() > 1 {
        let mut seen = HashSet::with_capacity(values.len());
        values.retain(|value| seen.insert(value.clone()));
    }
    values.shrink_to_fit();
    values
}
