//! `[admin]`: where operators ask, and how they prove who they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use discovery::document::Table;

use super::tls::read_tls;
use super::values::{file_path, socket_address};
use super::{AdminConfig, ListenerConfig};

/// What the system takes for the path of a socket (`sun_path`, unix(7)), less the ending under which it is made.
const MAX_SOCKET_BYTES: usize = 100;

enum Place {
    At(SocketAddr),
    Unix(PathBuf),
}

pub(super) fn read_admin(root: &Table<'_>, base: &Path, listeners: &[ListenerConfig]) -> Option<AdminConfig> {
    let table = root.table("admin")?;
    let place = table.parsed("address", |text| place(base, text));
    let socket = table.parsed("socket", |text| socket_path(base, text));
    if !table.has("socket") {
        table.required(
            "address",
            place.as_ref(),
            "address = \"127.0.0.1:9901\", or \"unix:/run/sluice/admin.sock\"",
        );
    }
    let tls = table.table("tls").and_then(|table| read_tls(table, base));
    let tokens = table.parsed("tokens", |text| file_path(base, text));
    let requires_token = table.boolean("require_token").unwrap_or_default();
    let (address, socket) = match (place, socket) {
        (Some(Place::Unix(_)), Some(_)) => {
            table.mistake("socket", "address names a socket already; remove one of the two");
            return None;
        }
        (Some(Place::Unix(path)), None) => (None, Some(path)),
        (Some(Place::At(address)), socket) => (Some(address), socket),
        (None, socket) => (None, socket),
    };
    if let Some(address) = address {
        check_address(&table, address, listeners, "the admin API");
    } else if table.has("tls") && !table.has("address") {
        table.mistake("tls", "is for an address; a socket needs none: remove it");
    }
    if requires_token && !table.has("tokens") {
        table.mistake("require_token", "needs to know the tokens; add tokens = \"admin-tokens\"");
    }
    if table.has("tls") && !table.has("tokens") && tls.as_ref().is_some_and(|tls| tls.client_auth.is_none()) {
        let message = "lets nobody in: add tokens = \"admin-tokens\", or client_ca = \"ca.pem\" here";
        table.mistake("tls", message);
    }
    table.finish();
    (address.is_some() || socket.is_some()).then_some(AdminConfig {
        address,
        socket,
        tls,
        tokens,
        requires_token,
    })
}

/// `whose`: what is to listen there.
pub(super) fn check_address(
    table: &Table<'_>,
    address: SocketAddr,
    listeners: &[ListenerConfig],
    whose: &str,
) {
    let taken = listeners.iter().find(|other| other.address == address && address.port() != 0);
    if let Some(taken) = taken {
        table.mistake("address", format!("{address} is the address of listener {:?}", &*taken.name));
    } else if !address.ip().is_loopback() && !table.has("tls") {
        let message = format!(
            "{address} is no loopback address: there {whose} needs TLS, and tokens or client certificates; \
             add tls = {{ certificates = [\"admin.pem\"] }} and tokens = \"admin-tokens\", or write \"127.0.0.1:{}\"",
            address.port()
        );
        table.mistake("address", message);
    }
}

fn place(base: &Path, text: &str) -> Result<Place, String> {
    match text.strip_prefix("unix:") {
        Some(path) => socket_path(base, path).map(Place::Unix),
        None => socket_address(text).map(Place::At),
    }
}

fn socket_path(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = file_path(base, text).map_err(str::to_owned)?;
    match path.as_os_str().len() {
        0..=MAX_SOCKET_BYTES => Ok(path),
        given => Err(format!("is a path of {given} bytes; a socket's can have {MAX_SOCKET_BYTES}")),
    }
}
