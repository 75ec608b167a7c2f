//! `[filters.addresses]` and `[[filters.rate_limits]]`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use topology::filters::{Addresses, RateKey, RateLimit};

use super::{Place, field_name, read_file, word};
use crate::document::Table;

/// Longer lists belong in a file, which costs nobody who reads the spec anything.
const MAX_INLINE_NETWORKS: usize = 10_000;
/// Each limit is a look-up per request.
const MAX_RATE_LIMITS: usize = 16;
/// Above it, a worker's whole day of requests is no limit any more.
const MAX_REQUESTS: u32 = 1_000_000_000;
/// Below it the pause between two requests is shorter than a scheduler's turn.
const MIN_PER: Duration = Duration::from_millis(100);
const MAX_PER: Duration = Duration::from_secs(24 * 3600);
/// 256 KiB of memory, from the first request on; an app rarely has more clients within a window.
const DEFAULT_KEYS: u32 = 16_384;
const MIN_KEYS: u32 = 64;
/// 256 MiB.
const MAX_KEYS: u32 = 16_777_216;
/// 1 MiB: whoever may write one app must not take the memory that all of them need.
const MAX_KEYS_OF_APP: u32 = 65_536;

pub(super) fn read_addresses(filters: &Table<'_>, place: Place<'_>) -> Option<Addresses> {
    let table = filters.table("addresses")?;
    let addresses = Addresses {
        allow: table.list("allow", MAX_INLINE_NETWORKS, network).unwrap_or_default(),
        deny: table.list("deny", MAX_INLINE_NETWORKS, network).unwrap_or_default(),
        allow_file: read_file(&table, "allow_file", place),
        deny_file: read_file(&table, "deny_file", place),
    };
    table.refuse_empty("allow", "nobody could ever ask; name a network, or leave it out");
    let keys = ["allow", "deny", "allow_file", "deny_file"];
    if !keys.iter().any(|key| table.has(key)) {
        table.mistake_here("decides nothing; write allow, deny, allow_file or deny_file");
    }
    table.finish();
    Some(addresses)
}

/// An address or a network.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    let message = |_| {
        format!("{text:?} is no network; write an address or a network such as 10.0.0.0/8 or 2001:db8::/32")
    };
    network.map(|network| network.trunc()).map_err(message)
}

/// Limits at `key`; `is_gateway`: of the gateway as a whole.
pub fn read_rate_limits<'d>(above: &Table<'d>, key: &'d str, is_gateway: bool) -> Vec<RateLimit> {
    let mut limits: Vec<RateLimit> = Vec::new();
    for table in above.tables(key, MAX_RATE_LIMITS) {
        let limit = read_rate_limit(&table, is_gateway);
        if let Some(limit) = limit {
            if limits.iter().any(|other| other.name == limit.name) {
                table.mistake("name", format!("{:?} is another limit's name already", &*limit.name));
            }
            limits.push(limit);
        }
        table.finish();
    }
    limits
}

fn read_rate_limit(table: &Table<'_>, is_gateway: bool) -> Option<RateLimit> {
    let name = table.required("name", table.parsed("name", word), "name = \"per-client\"");
    let whole = if is_gateway { "gateway" } else { "app" };
    let by = table.choice("by", &[("client", 0), ("header", 1), (whole, 2)]);
    let by = table.required("by", by, "by = \"client\"");
    let header = table.parsed("header", field_name);
    match (by, table.has("header")) {
        (Some(1), false) => {
            table.mistake("header", "is missing; write the field to count by, such as X-Tenant");
        }
        (Some(0 | 2), true) => {
            table.mistake("header", "means nothing here; write by = \"header\", or remove it");
        }
        _ => {}
    }
    let requests = table.integer("requests", 1..=MAX_REQUESTS);
    let requests = table.required("requests", requests, "requests = 100").and_then(NonZeroU32::new);
    let per = table.duration("per", MIN_PER..=MAX_PER).unwrap_or(Duration::from_secs(1));
    let burst = table.integer("burst", 1..=MAX_REQUESTS).and_then(NonZeroU32::new).or(requests);
    let most = if is_gateway { MAX_KEYS } else { MAX_KEYS_OF_APP };
    let keys = table.integer("keys", MIN_KEYS..=most).unwrap_or(DEFAULT_KEYS);
    let key = match by? {
        0 => RateKey::Client,
        1 => RateKey::Header(header?),
        _ => RateKey::All,
    };
    Some(RateLimit { name: name?, key, requests: requests?, per, burst: burst?, keys })
}
