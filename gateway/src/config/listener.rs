//! The `[[gateway.listener]]` sections.

use std::path::Path;
use std::sync::Arc;

use super::stream::{read_proxy_protocol, read_tcp, read_udp, refuse_on_http};
use super::values::{MAX_PATTERNS, socket_address};
use super::{ListenerConfig, ListenerProtocol, TlsConfig};
use discovery::document::Table;
use discovery::file::FilePattern;

/// Each costs a socket per worker.
const MAX_LISTENERS: usize = 100;
/// A name becomes a metric label.
const MAX_NAME_BYTES: usize = 64;

pub(super) fn read_listeners(gateway: &Table<'_>, base: &Path) -> Vec<ListenerConfig> {
    let sections = gateway.tables("listener", MAX_LISTENERS);
    let example = "a [[gateway.listener]] section with name, address and protocol";
    gateway.required("listener", gateway.has("listener").then_some(()), example);
    gateway.refuse_empty("listener", &format!("write {example}"));
    let mut listeners: Vec<ListenerConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        if let Some(listener) = read_listener(&section, base) {
            refuse_duplicates(&section, &listener, &listeners);
            listeners.push(listener);
        }
        section.finish();
    }
    listeners
}

fn read_listener(section: &Table<'_>, base: &Path) -> Option<ListenerConfig> {
    let name = section.parsed("name", listener_name);
    let name = section.required("name", name, "name = \"web\"");
    let address = section.parsed("address", socket_address);
    let address = section.required("address", address, "address = \"0.0.0.0:8080\"");
    let proxy_protocol = read_proxy_protocol(section);
    let protocol = read_protocol(section, base);
    Some(ListenerConfig { name: name?, address: address?, proxy_protocol, protocol: protocol? })
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
            let tls = section.table("tls").and_then(|table| read_tls(table, base));
            (tls.is_some() || !section.has("tls")).then_some(ListenerProtocol::Http { tls })
        }
        Some(Speaks::Tcp) => read_tcp(section, base),
        Some(Speaks::Udp) => read_udp(section),
        None => {
            // Which keys belong here cannot be told.
            section.ignore(&["app", "tls", "sni", "idle_timeout", "max_sessions"]);
            None
        }
    }
}

pub(super) fn read_tls(table: Table<'_>, base: &Path) -> Option<TlsConfig> {
    let certificates = table.list("certificates", MAX_PATTERNS, |text| FilePattern::parse(base, text));
    let certificates = table.required("certificates", certificates, "certificates = [\"tls/*.pem\"]");
    table.refuse_empty("certificates", "write certificates = [\"tls/*.pem\"]");
    table.finish();
    Some(TlsConfig { certificates: certificates? })
}

fn listener_name(text: &str) -> Result<Arc<str>, String> {
    let label = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let message = || format!("is no name; write 1 to {MAX_NAME_BYTES} of a-z A-Z 0-9 . _ -");
    label.then(|| Arc::from(text)).ok_or_else(message)
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
