//! The `[[gateway.listener]]` sections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use discovery::document::Table;

use super::limits::{read_limits, read_tcp_limits};
use super::stream::{read_proxy_protocol, read_tcp, read_udp, refuse_on_http};
use super::tls::{read_https, read_listener_tls, refuse_https};
use super::values::{label, socket_address};
use super::{ListenerConfig, ListenerProtocol};
use crate::listener::{Limits, Presence};

/// Each costs a socket per worker.
const MAX_LISTENERS: usize = 100;

pub(super) fn read_listeners(gateway: &Table<'_>, base: &Path, limits: &Limits) -> Vec<ListenerConfig> {
    let sections = gateway.tables("listener", MAX_LISTENERS);
    let example = "a [[gateway.listener]] section with name, address and protocol";
    gateway.required("listener", gateway.has("listener").then_some(()), example);
    gateway.refuse_empty("listener", &format!("write {example}"));
    let mut listeners: Vec<ListenerConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        if let Some(listener) = read_listener(&section, base, limits) {
            refuse_duplicates(&section, &listener, &listeners);
            listeners.push(listener);
        }
        section.finish();
    }
    listeners
}

fn read_listener(section: &Table<'_>, base: &Path, general: &Limits) -> Option<ListenerConfig> {
    let name = section.parsed("name", label);
    let name = section.required("name", name, "name = \"web\"");
    let address = section.parsed("address", socket_address);
    let address = section.required("address", address, "address = \"0.0.0.0:8080\"");
    let proxy_protocol = read_proxy_protocol(section);
    let presence = read_presence(section, address.as_ref());
    let protocol = read_protocol(section, base);
    let limits = Arc::new(read_own_limits(section, protocol.as_ref(), general));
    let (name, address, protocol) = (name?, address?, protocol?);
    Some(ListenerConfig { name, address, proxy_protocol, presence, limits, protocol })
}

fn read_presence(section: &Table<'_>, address: Option<&SocketAddr>) -> Presence {
    if section.boolean("freebind") != Some(true) {
        return Presence::Required;
    }
    if address.is_some_and(|address| address.ip().is_unspecified()) {
        section.mistake(
            "freebind",
            "is for one address; a listener of all addresses serves those that come later anyway",
        );
    }
    Presence::Optional
}

fn read_own_limits(section: &Table<'_>, protocol: Option<&ListenerProtocol>, general: &Limits) -> Limits {
    let read = match protocol {
        Some(ListenerProtocol::Http { .. }) => read_limits,
        Some(ListenerProtocol::Tcp(_)) => read_tcp_limits,
        Some(ListenerProtocol::Udp(_)) => {
            if section.has("limits") {
                section.mistake("limits", "is for connections; remove it: max_sessions limits sessions");
            }
            return general.clone();
        }
        None => {
            section.ignore(&["limits"]);
            return general.clone();
        }
    };
    section.table("limits").map_or_else(|| general.clone(), |table| read(table, general))
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Tcp,
    Udp,
}

fn read_protocol(section: &Table<'_>, base: &Path) -> Option<ListenerProtocol> {
    let words = [("http", Speaks::Http), ("tcp", Speaks::Tcp), ("udp", Speaks::Udp)];
    let speaks = section.choice("protocol", &words);
    let speaks = section.required("protocol", speaks, "protocol = \"http\", \"tcp\" or \"udp\"");
    match speaks {
        Some(Speaks::Http) => {
            refuse_on_http(section);
            let tls = section.table("tls").and_then(|table| read_listener_tls(table, base));
            let https = read_https(section);
            let http2 = section.boolean("http2").unwrap_or(true);
            (tls.is_some() || !section.has("tls")).then_some(ListenerProtocol::Http { tls, http2, https })
        }
        Some(Speaks::Tcp) => {
            refuse_https(section);
            read_tcp(section, base)
        }
        Some(Speaks::Udp) => {
            refuse_https(section);
            read_udp(section)
        }
        None => {
            // Which keys belong here cannot be told.
            section.ignore(&["app", "tls", "sni", "idle_timeout", "max_sessions"]);
            section.ignore(&["http2", "https_redirect", "https_port", "hsts"]);
            None
        }
    }
}

fn refuse_duplicates(section: &Table<'_>, new: &ListenerConfig, known: &[ListenerConfig]) {
    if known.iter().any(|other| other.name == new.name) {
        section.mistake("name", format!("a listener {:?} stands above already", &*new.name));
    }
    let same_address = |other: &&ListenerConfig| {
        let same_kind = other.protocol.transport() == new.protocol.transport();
        same_kind && other.address == new.address && new.address.port() != 0
    };
    if let Some(other) = known.iter().find(same_address) {
        let message = format!("{} is the address of listener {:?} already", new.address, &*other.name);
        section.mistake("address", message);
    }
}
