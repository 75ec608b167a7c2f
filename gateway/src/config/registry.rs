//! The `[registry]` section.

use std::path::{Path, PathBuf};
use std::time::Duration;

use discovery::document::{Table, nearest};
use discovery::registry::Key;
use discovery::remote::{Access, DEFAULT_PREFIX, DEFAULT_SESSION_TIMEOUT, Tls, User};
use discovery::zookeeper::Acl;
use discovery::{etcd, zookeeper};
use rustls::pki_types::ServerName;
use topology::HostPattern;

use super::values::file_path;
use super::{BeliefConfig, RegistryConfig};

const DEFAULT_PATH: &str = "data/registry";
/// Half of ZooKeeper's default tick: a shorter session would expire between two of its looks.
const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(1);
/// Above the 20 ticks that ZooKeeper grants by default.
const MAX_SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// An ensemble has 3 to 7.
const MAX_SERVERS: usize = 32;
/// etcd and ZooKeeper take longer names; nobody has them.
const MAX_USER_BYTES: usize = 256;

/// Longer than it takes a registrar to come back with a new session, and what a platform's probes need to find
/// out who is dead.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);
/// Who doubts for longer has decided that the registry is not the truth.
const MAX_GRACE: Duration = Duration::from_secs(3_600);
const DEFAULT_SAVED: &str = "data/registry.saved";

/// Everything that is for some kinds only.
const KEYS: [&str; 10] = [
    "path",
    "servers",
    "prefix",
    "session_timeout",
    "user",
    "password_file",
    "tls",
    "mass_loss_grace",
    "saved",
    "acl",
];

/// What is read of the section: the registry, the file with the keys that open its sealed values, and how its
/// word is taken.
pub(super) type Read = (RegistryConfig, Option<PathBuf>, BeliefConfig);

pub(super) fn read_registry(root: &Table<'_>, base: &Path) -> Option<Read> {
    let Some(table) = root.table("registry") else {
        let embedded = || RegistryConfig::Embedded { path: base.join(DEFAULT_PATH) };
        return (!root.has("registry")).then(|| (embedded(), None, BeliefConfig::default()));
    };
    let key_file = table.parsed("key_file", |text| file_path(base, text));
    let kind = if table.has("kind") { table.parsed("kind", Kind::parse) } else { Some(Kind::Embedded) };
    let registry = match kind {
        Some(Kind::Embedded) => read_embedded(&table, base),
        Some(Kind::ZooKeeper) => read_zookeeper(&table, base),
        Some(Kind::Etcd) => read_etcd(&table, base),
        None => {
            // Which keys belong here depends on the kind.
            table.ignore(&KEYS);
            None
        }
    };
    let belief = match kind {
        Some(Kind::ZooKeeper | Kind::Etcd) => read_belief(&table, base),
        Some(Kind::Embedded) | None => Some(BeliefConfig::default()),
    };
    table.finish();
    Some((registry?, key_file, belief?))
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    ZooKeeper,
    Etcd,
}

impl Kind {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "zookeeper" => Ok(Self::ZooKeeper),
            "etcd" => Ok(Self::Etcd),
            _ => {
                let meant = nearest(text, ["embedded", "zookeeper", "etcd"]);
                let meant = meant.map_or_else(String::new, |word| format!("; did you mean {word:?}?"));
                Err(format!("is none of embedded, zookeeper, etcd{meant}"))
            }
        }
    }
}

fn read_embedded(table: &Table<'_>, base: &Path) -> Option<RegistryConfig> {
    refuse(table, &KEYS[1..9], "is for kind = \"zookeeper\" and \"etcd\" only; remove it");
    refuse(table, &["acl"], "is for kind = \"zookeeper\" only; remove it");
    let path = table.parsed("path", |text| file_path(base, text));
    let path = path.or_else(|| (!table.has("path")).then(|| base.join(DEFAULT_PATH)));
    Some(RegistryConfig::Embedded { path: path? })
}

fn refuse<'d>(table: &Table<'d>, keys: &[&'d str], why: &str) {
    table.ignore(keys);
    for key in keys {
        if table.has(key) {
            table.mistake(key, why);
        }
    }
}

/// What ZooKeeper and etcd have in common.
struct Remote {
    servers: Vec<String>,
    prefix: String,
    session_timeout: Duration,
    access: Access,
}

/// `server` reads one of them; `example` is for who wrote none.
fn read_remote(
    table: &Table<'_>,
    base: &Path,
    server: impl FnMut(&str) -> Result<String, String>,
    example: &str,
) -> Option<Remote> {
    refuse(table, &["path"], "is for kind = \"embedded\" only; remove it");
    let servers = table.list("servers", MAX_SERVERS, server);
    table.refuse_empty("servers", &format!("write {example}"));
    let servers = table.required("servers", servers, example);
    let prefix = table.parsed("prefix", prefix).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let range = MIN_SESSION_TIMEOUT..=MAX_SESSION_TIMEOUT;
    let session_timeout = table.duration("session_timeout", range).unwrap_or(DEFAULT_SESSION_TIMEOUT);
    let access = Access { user: read_user(table, base), tls: read_tls(table, base) };
    Some(Remote { servers: servers?, prefix, session_timeout, access })
}

fn read_user(table: &Table<'_>, base: &Path) -> Option<User> {
    let name = table.parsed("user", user);
    let password_file = table.parsed("password_file", |text| file_path(base, text));
    for (key, other, example) in
        [("user", "password_file", "registry.password"), ("password_file", "user", "sluice")]
    {
        if table.has(key) && !table.has(other) {
            table.mistake(key, format!("is of no use without {other}; add {other} = {example:?}"));
        }
    }
    Some(User { name: name?, password_file: password_file? })
}

fn user(text: &str) -> Result<String, String> {
    let usable = (1..=MAX_USER_BYTES).contains(&text.len())
        && !text.chars().any(|c| c == ':' || c.is_control() || c.is_whitespace());
    let message = || format!("is no user; write 1 to {MAX_USER_BYTES} bytes without white space and colons");
    usable.then(|| text.to_owned()).ok_or_else(message)
}

fn read_tls(table: &Table<'_>, base: &Path) -> Option<Tls> {
    let table = table.table("tls")?;
    let ca = table.parsed("ca", |text| file_path(base, text));
    let certificate = table.parsed("certificate", |text| file_path(base, text));
    let server_name = table.parsed("server_name", |text| {
        let message = "is no name that a certificate can prove; write etcd.internal, or an IP address";
        ServerName::try_from(text).map(|_| text.to_owned()).map_err(|_| message)
    });
    table.finish();
    Some(Tls { ca, certificate, server_name })
}

/// `None` when a mistake was reported.
fn read_belief(table: &Table<'_>, base: &Path) -> Option<BeliefConfig> {
    let grace = if table.has("mass_loss_grace") {
        table.duration("mass_loss_grace", Duration::ZERO..=MAX_GRACE)?
    } else {
        DEFAULT_GRACE
    };
    let saved = if table.has("saved") {
        let saved = |text: &str| match text {
            "off" => Ok(None),
            path => file_path(base, path).map(Some),
        };
        table.parsed("saved", saved)?
    } else {
        Some(base.join(DEFAULT_SAVED))
    };
    Some(BeliefConfig { grace, saved })
}

fn read_zookeeper(table: &Table<'_>, base: &Path) -> Option<RegistryConfig> {
    let remote = read_remote(table, base, zookeeper_server, "servers = [\"127.0.0.1:2181\"]");
    let acls = [("open", Acl::Open), ("readable", Acl::Readable), ("private", Acl::Private)];
    let acl = table.choice("acl", &acls);
    if acl.is_some_and(|acl| acl != Acl::Open) && !table.has("user") {
        table.mistake("acl", "needs somebody to reserve nodes for; add user and password_file");
    }
    let mut remote = remote?;
    let chroot = take_chroot(table, &mut remote.servers);
    if let Some(tls) = &remote.access.tls {
        check_zookeeper_tls(table, tls, &remote.servers);
    }
    Some(RegistryConfig::ZooKeeper(zookeeper::Settings {
        servers: remote.servers,
        prefix: chroot + &remote.prefix,
        session_timeout: remote.session_timeout,
        // Whoever names a user wants what it writes to be its own.
        acl: acl.unwrap_or(if remote.access.user.is_some() { Acl::Private } else { Acl::Open }),
        access: remote.access,
    }))
}

fn zookeeper_server(text: &str) -> Result<String, String> {
    let (address, chroot) = text.split_once('/').unwrap_or((text, "chroot"));
    server(address, "zk-1.example.com:2181")?;
    prefix(&format!("/{chroot}")).map_err(|message| format!("{text:?}: what follows the port {message}"))?;
    Ok(text.to_owned())
}

/// As in ZooKeeper's own connection strings: the path that all keys are below stands behind the last server.
fn take_chroot(table: &Table<'_>, servers: &mut [String]) -> String {
    let Some((last, others)) = servers.split_last_mut() else { return String::new() };
    if others.iter().any(|server| server.contains('/')) {
        table.mistake(
            "servers",
            "has a path behind a server that is not the last; write it behind the last one",
        );
    }
    let slash = last.find('/').unwrap_or(last.len());
    last.split_off(slash)
}

/// What the client cannot do.
fn check_zookeeper_tls(table: &Table<'_>, tls: &Tls, servers: &[String]) {
    for server in servers {
        let host = server.rsplit_once(':').map_or(&**server, |(host, _)| host);
        // A host that no certificate can name would be a panic there.
        if ServerName::try_from(host.trim_matches(['[', ']'])).is_err() {
            table.mistake("servers", format!("{host:?} is no name that a certificate can prove"));
        }
    }
    if tls.ca.is_none() {
        table.mistake("tls", "needs the issuers of the servers' certificates; add ca = \"ca.pem\"");
    }
    if tls.server_name.is_some() {
        let message = "server_name is for kind = \"etcd\" only: a ZooKeeper proves to be the host that servers names; remove it";
        table.mistake("tls", message);
    }
}

fn read_etcd(table: &Table<'_>, base: &Path) -> Option<RegistryConfig> {
    let etcd_server = |text: &str| server(text, "etcd-1.example.com:2379").map(|()| text.to_owned());
    refuse(table, &["acl"], "is for kind = \"zookeeper\" only: etcd's roles are the cluster's; remove it");
    let Remote { servers, prefix, session_timeout, access } =
        read_remote(table, base, etcd_server, "servers = [\"127.0.0.1:2379\"]")?;
    Some(RegistryConfig::Etcd(etcd::Settings { servers, prefix, session_timeout, access }))
}

fn server(text: &str, example: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let named = matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_)));
    let port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if named && port {
        Ok(())
    } else {
        Err(format!("{text:?} is no server; write host:port, such as {example:?}"))
    }
}

fn prefix(text: &str) -> Result<String, &'static str> {
    match text.strip_prefix('/').map(Key::parse) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("is no prefix; write a path such as \"/caas\", without a slash at its end"),
    }
}
