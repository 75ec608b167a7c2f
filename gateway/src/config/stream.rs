//! The keys of TCP and UDP listeners.

use std::path::Path;
use std::time::Duration;

use discovery::document::Table;
use topology::{AppId, HostPattern};

use super::tls::read_listener_tls;
use super::{ListenerProtocol, TlsConfig};
use crate::listener::proxy_protocol::Mode;
use crate::proxy::timeouts;

/// Each is one customer's name.
const MAX_NAMES: usize = 1_000;
/// Shorter silences are part of any conversation.
const MIN_IDLE: Duration = Duration::from_secs(1);
/// Longer ones are told apart from death by nobody.
const MAX_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// For a resolver's answer, or a game's pause. nginx has ten minutes, which fills tables with the
/// sessions of one-packet clients; conntrack in the kernel gives up after 30 s without an answer.
pub const DEFAULT_UDP_IDLE: Duration = Duration::from_secs(60);
/// Each costs a socket: as many as fit beside connections below the usual limit of open files.
pub const DEFAULT_MAX_SESSIONS: usize = 10_000;
const MAX_SESSIONS: usize = 1_000_000;

/// A TCP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Which gets every connection that `sni` says nothing else of. `None` only with `sni`.
    pub app: Option<AppId>,
    /// By the name that a TLS client asks for, exact or wildcard; TLS passes through unread. Empty:
    /// connections are not looked into.
    pub sni: Vec<(HostPattern, AppId)>,
    /// Ends TLS here; the endpoint gets what was inside. Never together with `sni`.
    pub tls: Option<TlsConfig>,
    /// Without a byte in either direction. Default: 1 h.
    pub idle_timeout: Duration,
}

/// A UDP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpConfig {
    pub app: AppId,
    /// Without a datagram in either direction a session is over. Default: 60 s.
    pub idle_timeout: Duration,
    /// Of each worker. Default: 10,000.
    pub max_sessions: usize,
}

pub(super) fn read_proxy_protocol(section: &Table<'_>) -> Mode {
    let modes = [("off", Mode::Off), ("optional", Mode::Optional), ("required", Mode::Required)];
    section.choice("proxy_protocol", &modes).unwrap_or_default()
}

pub(super) fn read_tcp(section: &Table<'_>, base: &Path) -> Option<ListenerProtocol> {
    refuse(section, "max_sessions", "is for protocol = \"udp\" only; remove it");
    let app = section.parsed("app", AppId::parse);
    let sni = read_names(section);
    let tls = section.table("tls").and_then(|table| read_listener_tls(table, base));
    if !section.has("sni") {
        section.required("app", app.as_ref(), "app = \"db\", the app that gets every connection");
    } else if section.has("tls") {
        let message =
            "chooses by a name and passes TLS on unread, but tls ends it here; remove one of the two";
        section.mistake("sni", message);
    }
    let idle_timeout = section.duration("idle_timeout", MIN_IDLE..=MAX_IDLE).unwrap_or(timeouts::TUNNEL);
    let is_whole = tls.is_some() || !section.has("tls");
    is_whole.then_some(ListenerProtocol::Tcp(TcpConfig { app, sni, tls, idle_timeout }))
}

pub(super) fn read_udp(section: &Table<'_>) -> Option<ListenerProtocol> {
    refuse(section, "tls", "is for TCP; remove it: datagrams pass through unread");
    refuse(section, "sni", "is for TCP; remove it: datagrams pass through unread");
    if section.has("proxy_protocol") {
        section.mistake("proxy_protocol", "is for connections; remove it");
    }
    let app = section.parsed("app", AppId::parse);
    let app = section.required("app", app, "app = \"dns\", the app that gets every datagram");
    let idle_timeout = section.duration("idle_timeout", MIN_IDLE..=MAX_IDLE).unwrap_or(DEFAULT_UDP_IDLE);
    let max_sessions = section.integer("max_sessions", 1..=MAX_SESSIONS as u32);
    let max_sessions = max_sessions.map_or(DEFAULT_MAX_SESSIONS, |most| most as usize);
    Some(ListenerProtocol::Udp(UdpConfig { app: app?, idle_timeout, max_sessions }))
}

/// What HTTP listeners do not have.
pub(super) fn refuse_on_http(section: &Table<'_>) {
    refuse(section, "app", "is for protocol = \"tcp\" only: HTTP finds the app by its host; remove it");
    refuse(section, "sni", "is for protocol = \"tcp\" only: HTTP finds the app by its host; remove it");
    refuse(section, "idle_timeout", "is for protocol = \"tcp\" or \"udp\"; remove it");
    refuse(section, "max_sessions", "is for protocol = \"udp\" only; remove it");
}

fn refuse<'d>(section: &Table<'d>, key: &'d str, message: &str) {
    section.ignore(&[key]);
    if section.has(key) {
        section.mistake(key, message);
    }
}

fn read_names(section: &Table<'_>) -> Vec<(HostPattern, AppId)> {
    let Some(table) = section.table("sni") else { return Vec::new() };
    let names = table.names();
    if names.len() == 0 {
        section.mistake("sni", "is empty; write sni = { \"db.example.com\" = \"db\" }, or remove it");
    }
    if names.len() > MAX_NAMES {
        section.mistake("sni", format!("has {} names; the limit is {MAX_NAMES}", names.len()));
        table.ignore(&names.collect::<Vec<_>>());
        return Vec::new();
    }
    let mut routes: Vec<(HostPattern, AppId)> = Vec::with_capacity(names.len());
    for name in names {
        let app = table.parsed(name, AppId::parse);
        match (server_name(name), app) {
            (Ok(pattern), _) if routes.iter().any(|(known, _)| *known == pattern) => {
                table.mistake(name, "is the same name as one above");
            }
            (Ok(pattern), Some(app)) => routes.push((pattern, app)),
            (Ok(_), None) => {}
            (Err(message), _) => table.mistake(name, message),
        }
    }
    table.finish();
    routes
}

fn server_name(text: &str) -> Result<HostPattern, String> {
    let hint = "write a name such as db.example.com or *.db.example.com";
    match HostPattern::parse(text) {
        Ok(HostPattern::Any) => Err("is any name; write app = \"…\" beside sni for the rest".to_owned()),
        Ok(HostPattern::Exact(name)) if is_address(&name) => {
            Err(format!("is an address, for which clients send no name; {hint}"))
        }
        Ok(pattern) => Ok(pattern),
        Err(_) => Err(format!("is no server name; {hint}")),
    }
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}
