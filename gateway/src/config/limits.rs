//! `[gateway.limits]`, and a listener's `limits`, which replaces what it names.

use std::time::Duration;

use discovery::document::Table;

use crate::listener::Limits;
use crate::message::request::{CEILING_FIELDS, CEILING_HEAD_BYTES};

/// Below this no client on a bad link gets through, and above it nothing is limited.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// What browsers send without any cookie fits.
const MIN_HEAD_BYTES: u64 = 1 << 10;
const MIN_FIELDS: usize = 16;
const MIN_URI_BYTES: u64 = 256;
/// Nobody means more than a terabyte; 0 says "no limit".
const MAX_BODY_BYTES: u64 = 1 << 40;
/// A thousand times the default: a rate above is no defence, it is a service level.
const MAX_BODY_RATE: u32 = 240_000;

/// Keys that mean nothing where no HTTP is spoken.
const HTTP_KEYS: [&str; 8] = [
    "header_timeout",
    "keepalive_timeout",
    "max_head",
    "max_fields",
    "max_uri",
    "max_body",
    "min_body_rate",
    "max_requests",
];

/// Below this a handful of clients fills them.
const MIN_BUFFERS: u64 = 16 << 20;
/// More than any machine has.
const MAX_BUFFERS: u64 = 1 << 44;

/// What holds for every listener, and the workers' buffers.
pub(super) fn read_general(gateway: &Table<'_>) -> (Limits, Option<u64>) {
    let Some(table) = gateway.table("limits") else { return (Limits::default(), None) };
    let buffers = table.size("max_buffers", MIN_BUFFERS..=MAX_BUFFERS);
    let limits = read_http(&table, &Limits::default());
    table.finish();
    (limits, buffers)
}

/// What `table` says, and what `general` says of the rest.
pub(super) fn read_limits(table: Table<'_>, general: &Limits) -> Limits {
    refuse_buffers(&table);
    let limits = read_http(&table, general);
    table.finish();
    limits
}

fn refuse_buffers(table: &Table<'_>) {
    if table.has("max_buffers") {
        table.mistake(
            "max_buffers",
            "is for [gateway.limits]: all listeners share a worker's buffers; remove it",
        );
    }
}

fn read_http(table: &Table<'_>, general: &Limits) -> Limits {
    let mut limits = general.clone();
    read_head(table, &mut limits);
    set(&mut limits.header_timeout, table.duration("header_timeout", TIMEOUTS));
    set(&mut limits.keepalive_timeout, table.duration("keepalive_timeout", TIMEOUTS));
    set(&mut limits.max_body, table.size("max_body", 0..=MAX_BODY_BYTES).map(or_none));
    set(&mut limits.min_body_rate, table.integer("min_body_rate", 0..=MAX_BODY_RATE));
    let requests = table.integer("max_requests", 0..=u32::MAX);
    set(&mut limits.max_requests, requests.map(u64::from).map(or_none));
    read_connections(table, &mut limits);
    limits
}

/// As [`read_limits`], of a listener that speaks no HTTP.
pub(super) fn read_tcp_limits(table: Table<'_>, general: &Limits) -> Limits {
    let mut limits = general.clone();
    refuse_buffers(&table);
    for key in HTTP_KEYS {
        if table.has(key) {
            table.mistake(key, "is for protocol = \"http\" only; remove it");
        }
    }
    read_connections(&table, &mut limits);
    table.finish();
    limits
}

fn read_head(table: &Table<'_>, limits: &mut Limits) {
    let bytes = table.size("max_head", MIN_HEAD_BYTES..=CEILING_HEAD_BYTES as u64);
    set(&mut limits.head.bytes, bytes.map(|bytes| bytes as usize));
    set(
        &mut limits.head.fields,
        table.integer("max_fields", MIN_FIELDS as u16..=CEILING_FIELDS as u16).map(usize::from),
    );
    let target = table.size("max_uri", MIN_URI_BYTES..=CEILING_HEAD_BYTES as u64);
    set(&mut limits.head.target, target.map(|bytes| bytes as usize));
    if limits.head.target > limits.head.bytes {
        if table.has("max_uri") {
            table.mistake("max_uri", "is more than max_head, which it is a part of; raise max_head too");
        }
        limits.head.target = limits.head.bytes;
    }
}

fn read_connections(table: &Table<'_>, limits: &mut Limits) {
    let most = |number: u32| if number == 0 { u32::MAX } else { number };
    let connections = table.integer("max_connections", 0..=u32::MAX).map(most);
    set(&mut limits.max_connections, connections.map(|connections| connections as usize));
    let of_one = table.integer("max_connections_per_client", 0..=u32::MAX).map(most);
    limits.max_connections_per_client = of_one.or(limits.max_connections_per_client);
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// 0 says that there is none.
fn or_none(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}
