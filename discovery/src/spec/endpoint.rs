//! One endpoint: an `[[endpoint]]` section, or the JSON value of an address key.

use std::net::SocketAddr;
use std::sync::Arc;

use topology::{Endpoint, InstanceId, InstanceKey, OperatorWord, Origin, Protocol, VersionId};

use super::parse_address;
use crate::document::{Table, pick};

/// Ten times the largest app known to us.
const MAX_ENDPOINTS: usize = 10_000;
/// A zone is a short label.
const MAX_ZONE_BYTES: usize = 64;

/// Ordered by key, each key once.
pub(super) fn read_endpoints(table: &Table<'_>) -> Vec<Endpoint> {
    let sections = table.tables("endpoint", MAX_ENDPOINTS);
    let mut found: Vec<(Endpoint, Table<'_>)> = Vec::with_capacity(sections.len());
    for section in sections {
        if let Some(endpoint) = read_endpoint(&section) {
            found.push((endpoint, section));
        } else {
            section.finish();
        }
    }
    // Stable: of two with one key, the later in the text is the duplicate.
    found.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    for pair in found.windows(2) {
        let (first, (second, section)) = (&pair[0].0, &pair[1]);
        if first.key == second.key {
            let InstanceKey { version, instance } = &first.key;
            section.mistake_here(format!("version {version:?} has an instance {instance:?} already"));
        }
    }
    let endpoints = found.into_iter().map(|(endpoint, section)| {
        section.finish();
        endpoint
    });
    endpoints.collect()
}

fn read_endpoint(section: &Table<'_>) -> Option<Endpoint> {
    let version = section.parsed("version", VersionId::parse);
    let version = section.required("version", version, "version = \"v1\"");
    let instance = section.parsed("instance", InstanceId::parse);
    let instance = section.required("instance", instance, "instance = \"c1\"");
    let address = read_address(section);
    let weight = read_weight(section);
    let protocol = read_protocol(section);
    let zone = read_zone(section);
    let is_backup = read_backup(section);
    Some(Endpoint {
        key: InstanceKey { version: version?, instance: instance? },
        address: address?,
        weight: weight.unwrap_or(Endpoint::DEFAULT_WEIGHT),
        protocol: protocol.unwrap_or_default(),
        zone,
        is_backup,
        origin: Origin::File,
        word: OperatorWord::default(),
    })
}

pub(crate) fn read_address(table: &Table<'_>) -> Option<SocketAddr> {
    let address = table.parsed("address", parse_address);
    table.required("address", address, "address = \"10.0.0.1:8080\"")
}

pub(crate) fn read_weight(table: &Table<'_>) -> Option<u16> {
    table.integer("weight", 0..=u16::MAX)
}

pub(crate) fn read_protocol(table: &Table<'_>) -> Option<Protocol> {
    let known =
        [("http1", Protocol::Http1), ("h2", Protocol::Http2), ("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    table.parsed("protocol", |given| pick(given, &known))
}

pub(crate) fn read_backup(table: &Table<'_>) -> bool {
    table.boolean("backup").unwrap_or_default()
}

pub(crate) fn read_zone(table: &Table<'_>) -> Option<Arc<str>> {
    table.parsed("zone", parse_zone)
}

/// Where endpoints and gateways run.
///
/// # Errors
/// What to write instead.
pub fn parse_zone(zone: &str) -> Result<Arc<str>, String> {
    let label =
        (1..=MAX_ZONE_BYTES).contains(&zone.len()) && zone.bytes().all(|byte| byte.is_ascii_graphic());
    let message = || format!("is no zone; write 1 to {MAX_ZONE_BYTES} visible ASCII characters");
    label.then(|| Arc::from(zone)).ok_or_else(message)
}
