//! The `[[gateway.listener]]` sections.

use std::path::Path;

use discovery::document::Table;
use topology::AppId;

use super::tls::{read_https, read_tls, refuse_https};
use super::values::{label, socket_address};
use super::{ListenerConfig, ListenerProtocol};

/// Each costs a socket per worker.
const MAX_LISTENERS: usize = 100;

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
    let name = section.parsed("name", label);
    let name = section.required("name", name, "name = \"web\"");
    let address = section.parsed("address", socket_address);
    let address = section.required("address", address, "address = \"0.0.0.0:8080\"");
    section.parsed("proxy_protocol", |mode| match mode {
        "off" => Ok(()),
        _ => Err("this version does not read the PROXY protocol; write \"off\", or leave it out"),
    });
    let protocol = read_protocol(section, base);
    Some(ListenerConfig { name: name?, address: address?, protocol: protocol? })
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Tcp,
}

fn read_protocol(section: &Table<'_>, base: &Path) -> Option<ListenerProtocol> {
    let speaks = section.choice("protocol", &[("http", Speaks::Http), ("tcp", Speaks::Tcp)]);
    let speaks = section.required("protocol", speaks, "protocol = \"http\" or \"tcp\"");
    let app = section.parsed("app", AppId::parse);
    let tls = section.table("tls").and_then(|table| read_tls(table, base));
    match speaks? {
        Speaks::Http => {
            if section.has("app") {
                section.mistake(
                    "app",
                    "is for protocol = \"tcp\" only: HTTP finds the app by its host; remove it",
                );
            }
            let https = read_https(section);
            let http2 = section.boolean("http2").unwrap_or(true);
            (tls.is_some() || !section.has("tls")).then_some(ListenerProtocol::Http { tls, http2, https })
        }
        Speaks::Tcp => {
            if section.has("tls") {
                section.mistake("tls", "this version has no TLS on TCP listeners; remove it");
            }
            refuse_https(section);
            let app = section.required("app", app, "app = \"db\", the app that gets every connection");
            Some(ListenerProtocol::Tcp { app: app? })
        }
    }
}

fn refuse_duplicates(section: &Table<'_>, new: &ListenerConfig, known: &[ListenerConfig]) {
    if known.iter().any(|other| other.name == new.name) {
        section.mistake("name", format!("a listener {:?} stands above already", &*new.name));
    }
    let same_address = |other: &&ListenerConfig| other.address == new.address && new.address.port() != 0;
    if let Some(other) = known.iter().find(same_address) {
        let message = format!("{} is the address of listener {:?} already", new.address, &*other.name);
        section.mistake("address", message);
    }
}
