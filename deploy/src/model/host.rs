//! A machine that runs instances, and what of it is given out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use discovery::document::{Document, Mistakes, Table};
use discovery::registry::Key;
use serde::{Deserialize, Serialize};
use topology::AppId;

use super::placement::read_labels;
use super::{Unreadable, stored};

const MAX_MEMORY: u64 = 1 << 50;
const MAX_CPU: u32 = 1_000_000;
const MAX_ENDPOINT_BYTES: usize = 1 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where its instances are reached.
    pub address: IpAddr,
    /// In bytes, for instances.
    pub memory: u64,
    /// In thousandths of a processor, for instances.
    pub cpu: u32,
    pub labels: BTreeMap<String, String>,
    /// What its instances may listen on. Not from the range that the kernel takes for outgoing connections.
    pub ports: RangeInclusive<u16>,
    /// How its runtime is reached, as the runtime understands it; `None`: this machine.
    pub endpoint: Option<String>,
    /// Gets no new instances.
    pub cordoned: bool,
    /// Its instances move elsewhere, a bounded share at a time, each replaced before it goes.
    pub drained: bool,
}

impl Host {
    /// Below Linux's usual range of ephemeral ports (32768 and up), as the platform's hosts have it.
    pub const DEFAULT_PORTS: RangeInclusive<u16> = 25_000..=29_999;

    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Mistakes> {
        Document::json(key.as_str(), value)?.read(read_host)
    }
}

fn read_host(table: Table<'_>) -> Option<Host> {
    let address = table.parsed("address", |text| {
        text.parse::<IpAddr>().map_err(|_| "is no IP address; write one such as \"10.0.0.1\"")
    });
    let address = table.required("address", address, "address = \"10.0.0.1\"");
    let memory = table.size("memory", 1 << 20..=MAX_MEMORY);
    let memory = table.required("memory", memory, "memory = \"16GiB\"");
    let cpu = table.hundredths("cpu", 1..=MAX_CPU);
    let cpu = table.required("cpu", cpu, "cpu = 4");
    let labels = read_labels(&table, "labels");
    let ports = read_ports(&table);
    let endpoint = table.parsed("endpoint", |text| {
        let usable = (1..=MAX_ENDPOINT_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        usable
            .then(|| text.to_owned())
            .ok_or("is no endpoint; write unix:///var/run/docker.sock, for example")
    });
    let cordoned = table.boolean("cordoned").unwrap_or(false);
    let drained = table.boolean("drained").unwrap_or(false);
    table.finish();
    let (address, memory, cpu) = (address?, memory?, cpu? * 10);
    Some(Host { address, memory, cpu, labels, ports, endpoint, cordoned, drained })
}

/// The ports that a host's instances may have; [`Host::DEFAULT_PORTS`] where the table names none or wrong ones, which it is told.
pub fn read_ports(table: &Table<'_>) -> RangeInclusive<u16> {
    let Some((first, last)) = table.ordered_pair("ports", "[25000, 29999]") else {
        return Host::DEFAULT_PORTS;
    };
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if first > 0 => first..=last,
        _ => {
            table.mistake("ports", "must be from 1 to 65535");
            Host::DEFAULT_PORTS
        }
    }
}

/// What of a host is given out: instances by `{app}/{instance}`. Placements write it conditionally, so that those of different
/// apps and engines exclude each other per host; whoever reads it sees all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub given: BTreeMap<String, Share>,
}

/// What one instance has of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub memory: u64,
    pub cpu: u32,
    pub port: u16,
}

impl Ledger {
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Unreadable> {
        stored::read(key, value)
    }

    pub fn to_value(&self) -> bytes::Bytes {
        stored::write(self)
    }

    pub fn memory(&self) -> u64 {
        self.given.values().map(|share| share.memory).sum()
    }

    pub fn cpu(&self) -> u32 {
        self.given.values().map(|share| share.cpu).fold(0, u32::saturating_add)
    }

    /// Instances of an app.
    pub fn count(&self, app: &AppId) -> usize {
        let from = format!("{app}/");
        self.given.range(from.clone()..).take_while(|(name, _)| name.starts_with(&from)).count()
    }
}
