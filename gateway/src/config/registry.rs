//! The `[registry]` section.

use std::path::Path;
use std::time::Duration;

use discovery::document::{Table, nearest};
use discovery::registry::Key;
use topology::HostPattern;

use super::RegistryConfig;
use super::values::file_path;

const DEFAULT_PATH: &str = "data/registry";
/// What the platform's registrars write below.
const DEFAULT_PREFIX: &str = "/caas";
/// Three of ZooKeeper's default ticks of 2 s: one lost heartbeat ends no session, and what a dead
/// gateway held is free after 6 s.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Half of ZooKeeper's default tick: a shorter session would expire between two of its looks.
const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(1);
/// Above the 20 ticks that ZooKeeper grants by default.
const MAX_SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// An ensemble has 3 to 7.
const MAX_SERVERS: usize = 32;

pub(super) fn read_registry(root: &Table<'_>, base: &Path) -> Option<RegistryConfig> {
    let Some(table) = root.table("registry") else {
        let absent = !root.has("registry");
        return absent.then(|| RegistryConfig::Embedded { path: base.join(DEFAULT_PATH) });
    };
    let kind = if table.has("kind") { table.parsed("kind", Kind::parse) } else { Some(Kind::Embedded) };
    let registry = match kind {
        Some(Kind::Embedded) => read_embedded(&table, base),
        Some(Kind::ZooKeeper) => read_zookeeper(&table),
        None => {
            // Which keys belong here depends on the kind.
            table.ignore(&["path", "servers", "prefix", "session_timeout"]);
            None
        }
    };
    table.finish();
    registry
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    ZooKeeper,
}

impl Kind {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "zookeeper" => Ok(Self::ZooKeeper),
            "etcd" => {
                Err("this version has no etcd registry; write \"embedded\" or \"zookeeper\"".to_owned())
            }
            _ => {
                let meant = nearest(text, ["embedded", "zookeeper"]);
                let meant = meant.map_or_else(String::new, |word| format!("; did you mean {word:?}?"));
                Err(format!("is none of embedded, zookeeper{meant}"))
            }
        }
    }
}

fn read_embedded(table: &Table<'_>, base: &Path) -> Option<RegistryConfig> {
    for key in ["servers", "prefix", "session_timeout"] {
        if table.has(key) {
            table.mistake(key, "is for kind = \"zookeeper\" only; remove it");
        }
    }
    let path = table.parsed("path", |text| file_path(base, text));
    let path = path.or_else(|| (!table.has("path")).then(|| base.join(DEFAULT_PATH)));
    Some(RegistryConfig::Embedded { path: path? })
}

fn read_zookeeper(table: &Table<'_>) -> Option<RegistryConfig> {
    if table.has("path") {
        table.mistake("path", "is for kind = \"embedded\" only; remove it");
    }
    let servers = table.list("servers", MAX_SERVERS, server);
    table.refuse_empty("servers", "write servers = [\"127.0.0.1:2181\"]");
    let servers = table.required("servers", servers, "servers = [\"127.0.0.1:2181\"]");
    let prefix = table.parsed("prefix", prefix).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let range = MIN_SESSION_TIMEOUT..=MAX_SESSION_TIMEOUT;
    let session_timeout = table.duration("session_timeout", range).unwrap_or(DEFAULT_SESSION_TIMEOUT);
    Some(RegistryConfig::ZooKeeper { servers: servers?, prefix, session_timeout })
}

fn server(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let named = matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_)));
    let port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if named && port {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no server; write host:port, such as \"zk-1.example.com:2181\""))
}

fn prefix(text: &str) -> Result<String, &'static str> {
    match text.strip_prefix('/').map(Key::parse) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("is no prefix; write a path such as \"/caas\", without a slash at its end"),
    }
}
