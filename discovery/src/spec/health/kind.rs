//! What is asked, and which answers pass.

use std::sync::Arc;

use topology::{HttpProbeSettings, ProbeKind, ProbeMethod};

use crate::document::Table;
use crate::spec::filters::field_name;

/// What a probe says beside its path is a handful of constants; with the path it stays within the 8 KiB that
/// most servers read of a head.
const MAX_HEADERS: usize = 16;
const MAX_HEADER_BYTES: usize = 256;
/// DNS allows 253 bytes, and a port may follow.
const MAX_HOST_BYTES: usize = 260;
/// More than there are classes and exceptions to them.
const MAX_STATUSES: usize = 32;
/// A marker, not a page.
const MAX_BODY_BYTES: usize = 256;
/// gRPC names are a package's and a service's.
const MAX_SERVICE_BYTES: usize = 256;
/// MySQL's own limit.
const MAX_USER_BYTES: usize = 32;
/// Need not exist: a login that is refused is an answer.
const DEFAULT_USER: &str = "sluice_probe";

/// The fields that the prober writes itself, and what to do instead.
const RESERVED: [(&str, &str); 9] = [
    ("host", "is set with health.host"),
    ("content-length", "is written by the prober, which sends no body"),
    ("transfer-encoding", "is written by the prober, which sends no body"),
    ("connection", "is about one connection, which the prober keeps"),
    ("keep-alive", "is about one connection, which the prober keeps"),
    ("proxy-connection", "is about one connection, which the prober keeps"),
    ("upgrade", "asks for another protocol, which the prober does not speak"),
    ("te", "is about one connection, which the prober keeps"),
    ("expect", "announces a body, and the prober sends none"),
];

/// The keys that only some kinds have, and which.
const KEYS: [(&str, &[&str]); 8] = [
    ("path", HTTP),
    ("method", HTTP),
    ("host", HTTP),
    ("headers", HTTP),
    ("status", HTTP),
    ("body", HTTP),
    ("service", &["grpc"]),
    ("user", &["mysql"]),
];
const HTTP: &[&str] = &["http"];

#[derive(Debug, Clone, Copy)]
enum Word {
    Http,
    Tcp,
    Grpc,
    MySql,
    Redis,
}

const WORDS: [(&str, Word); 5] = [
    ("http", Word::Http),
    ("tcp", Word::Tcp),
    ("grpc", Word::Grpc),
    ("mysql", Word::MySql),
    ("redis", Word::Redis),
];

pub(super) fn read_kind(table: &Table<'_>) -> ProbeKind {
    let service = table.parsed("service", service_name);
    let user = table.parsed("user", user_name);
    match table.choice("kind", &WORDS) {
        None => ProbeKind::Native,
        Some(Word::Http) => ProbeKind::Http,
        Some(Word::Tcp) => ProbeKind::Tcp,
        Some(Word::Grpc) => ProbeKind::Grpc { service: service.unwrap_or_default() },
        Some(Word::MySql) => ProbeKind::MySql { user: user.unwrap_or_else(|| DEFAULT_USER.into()) },
        Some(Word::Redis) => ProbeKind::Redis,
    }
}

pub(super) fn read_http(table: &Table<'_>) -> HttpProbeSettings {
    let default = HttpProbeSettings::default();
    let methods = ProbeMethod::ALL.map(|method| (method.as_str(), method));
    let method = table.choice("method", &methods).unwrap_or_default();
    let status = table.words("status", MAX_STATUSES, status_range);
    table.refuse_empty("status", "write which pass, such as [\"200-299\"], or leave it out");
    let body = table.parsed("body", body_part);
    if body.is_some() && method == ProbeMethod::Head {
        table.mistake("body", "answers to HEAD have none; write method = \"GET\", or leave it out");
    }
    HttpProbeSettings {
        method,
        host: table.parsed("host", host),
        headers: read_headers(table),
        status: status.filter(|ranges| !ranges.is_empty()).unwrap_or(default.status),
        body,
    }
}

/// Settings that do nothing would be taken for a stricter probe than there is.
pub(super) fn refuse_foreign_keys(table: &Table<'_>, kind: &ProbeKind) {
    let kind = match kind {
        ProbeKind::Native if !table.has("kind") => "http",
        // A mistake that has been told.
        ProbeKind::Native => return,
        ProbeKind::Http => "http",
        ProbeKind::Tcp => "tcp",
        ProbeKind::Grpc { .. } => "grpc",
        ProbeKind::MySql { .. } => "mysql",
        ProbeKind::Redis => "redis",
    };
    for (key, kinds) in KEYS {
        if table.has(key) && !kinds.contains(&kind) {
            let of = kinds.join("\" or \"");
            table.mistake(key, format!("is for kind = \"{of}\"; remove it, or write that kind"));
        }
    }
}

fn read_headers(table: &Table<'_>) -> Vec<(Arc<str>, Arc<str>)> {
    let Some(fields) = table.table("headers") else { return Vec::new() };
    if fields.names().len() > MAX_HEADERS {
        table.mistake("headers", format!("has {} fields; the limit is {MAX_HEADERS}", fields.names().len()));
        return Vec::new();
    }
    let mut headers = Vec::with_capacity(fields.names().len());
    for name in fields.names() {
        let value = fields.parsed(name, header_value);
        let lower = name.to_ascii_lowercase();
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == lower) {
            fields.mistake(name, *why);
            continue;
        }
        match (field_name(name), value) {
            (Err(message), _) => fields.mistake(name, message),
            (Ok(_), Some(value)) => headers.push((lower.into(), value)),
            (Ok(_), None) => {}
        }
    }
    fields.finish();
    headers
}

/// `204`, or `200-299`.
fn status_range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| is_status && (200..=599).contains(status))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "{text:?} is no final status; write one from 200 to 599, or a range such as \"200-299\""
        )),
    }
}

fn host(text: &str) -> Result<Arc<str>, String> {
    let is_host = (1..=MAX_HOST_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    is_host.then(|| text.into()).ok_or_else(|| {
        format!("{text:?} is no host; write a name such as shop.example.com, with or without a port")
    })
}

fn header_value(text: &str) -> Result<Arc<str>, String> {
    let is_value = text.len() <= MAX_HEADER_BYTES
        && text.trim_matches(' ') == text
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let message =
        || format!("is no field's value; write at most {MAX_HEADER_BYTES} visible ASCII characters");
    is_value.then(|| text.into()).ok_or_else(message)
}

fn body_part(text: &str) -> Result<Arc<str>, String> {
    let message = || format!("has {} bytes; write 1 to {MAX_BODY_BYTES}", text.len());
    (1..=MAX_BODY_BYTES).contains(&text.len()).then(|| text.into()).ok_or_else(message)
}

fn service_name(text: &str) -> Result<Arc<str>, String> {
    let is_name = text.len() <= MAX_SERVICE_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let message = || {
        format!(
            "is no service's name; write at most {MAX_SERVICE_BYTES} visible ASCII characters, such as shop.v1.Cart"
        )
    };
    is_name.then(|| text.into()).ok_or_else(message)
}

fn user_name(text: &str) -> Result<Arc<str>, String> {
    let is_name =
        (1..=MAX_USER_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let message = || format!("is no user's name; write 1 to {MAX_USER_BYTES} visible ASCII characters");
    is_name.then(|| text.into()).ok_or_else(message)
}
