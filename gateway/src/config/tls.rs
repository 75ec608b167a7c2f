//! Everything about TLS: listeners' `tls` table and https keys, and `[[gateway.upstream_tls]]`.

use std::path::Path;
use std::time::Duration;

use discovery::document::Table;
use discovery::file::FilePattern;
use rustls::pki_types::ServerName;

use super::values::{MAX_PATTERNS, file_path, label};
use super::{ClientAuthConfig, ClientAuthMode, HttpsConfig, MinTlsVersion, TlsConfig, UpstreamTlsConfig};

/// As many as there are authorities that endpoints may have; each holds roots and sessions.
const MAX_UPSTREAM_TLS: usize = 100;
/// Ten years: whoever means "forever" writes one or two.
const MAX_HSTS: Duration = Duration::from_secs(3650 * 86_400);

/// Of a listener for traffic: the registry's certificates are served there too, unless `registry = false`.
pub(super) fn read_listener_tls(table: Table<'_>, base: &Path) -> Option<TlsConfig> {
    let from_registry = table.boolean("registry");
    let needs_files = from_registry != Some(true);
    let config = read_any_tls(table, base, needs_files)?;
    Some(TlsConfig { from_registry: from_registry.unwrap_or(true), ..config })
}

/// Of a listener of our own, which shows its files alone.
pub(super) fn read_tls(table: Table<'_>, base: &Path) -> Option<TlsConfig> {
    read_any_tls(table, base, true)
}

fn read_any_tls(table: Table<'_>, base: &Path, needs_files: bool) -> Option<TlsConfig> {
    let certificates = table.list("certificates", MAX_PATTERNS, |text| FilePattern::parse(base, text));
    let certificates = match needs_files {
        true => table.required("certificates", certificates, "certificates = [\"tls/*.pem\"]"),
        false => Some(certificates.unwrap_or_default()),
    };
    table.refuse_empty("certificates", "write certificates = [\"tls/*.pem\"]");
    let min_version = table.parsed("min_version", |text| match text {
        "1.2" => Ok(MinTlsVersion::Tls12),
        "1.3" => Ok(MinTlsVersion::Tls13),
        "1.0" | "1.1" => Err("is broken and not spoken (RFC 8996); write \"1.2\" or \"1.3\""),
        _ => Err("is no version of TLS that is spoken; write \"1.2\" or \"1.3\""),
    });
    let client_auth = read_client_auth(&table, base);
    table.finish();
    let min_version = min_version.unwrap_or_default();
    Some(TlsConfig { certificates: certificates?, from_registry: false, min_version, client_auth })
}

fn read_client_auth(table: &Table<'_>, base: &Path) -> Option<ClientAuthConfig> {
    let ca = table.parsed("client_ca", |text| file_path(base, text));
    let modes = [("optional", ClientAuthMode::Optional), ("required", ClientAuthMode::Required)];
    let mode = table.choice("client_auth", &modes);
    if table.has("client_auth") && !table.has("client_ca") {
        table.mistake("client_auth", "needs to know whom to believe; add client_ca = \"ca.pem\"");
    }
    Some(ClientAuthConfig { ca: ca?, mode: mode.unwrap_or(ClientAuthMode::Required) })
}

/// Of an HTTP listener.
pub(super) fn read_https(listener: &Table<'_>) -> HttpsConfig {
    let default = HttpsConfig::default();
    let redirect = listener.boolean("https_redirect");
    let port = listener.integer("https_port", 1..=u16::MAX);
    let hsts = listener.duration("hsts", Duration::ZERO..=MAX_HSTS);
    if listener.has("tls") {
        for key in ["https_redirect", "https_port"] {
            if listener.has(key) {
                listener.mistake(key, "is for listeners without tls: this one is https; remove it");
            }
        }
    } else if listener.has("hsts") {
        // RFC 6797 section 7.2.
        listener.mistake("hsts", "is for listeners with tls: clients ignore it elsewhere; remove it");
    }
    HttpsConfig { redirect: redirect.unwrap_or(default.redirect), port: port.unwrap_or(default.port), hsts }
}

/// Of any other listener.
pub(super) fn refuse_https(listener: &Table<'_>) {
    for key in ["https_redirect", "https_port", "hsts"] {
        if listener.has(key) {
            listener.mistake(key, "is for protocol = \"http\" only; remove it");
        }
    }
}

pub(super) fn read_upstream_tls(gateway: &Table<'_>, base: &Path) -> Vec<UpstreamTlsConfig> {
    let mut profiles: Vec<UpstreamTlsConfig> = Vec::new();
    for section in gateway.tables("upstream_tls", MAX_UPSTREAM_TLS) {
        if let Some(profile) = read_profile(&section, base) {
            if profiles.iter().any(|other| other.name == profile.name) {
                section.mistake("name", format!("a profile {:?} stands above already", &*profile.name));
            }
            profiles.push(profile);
        }
        section.finish();
    }
    profiles
}

fn read_profile(section: &Table<'_>, base: &Path) -> Option<UpstreamTlsConfig> {
    let name = section.parsed("name", label);
    let name = section.required("name", name, "name = \"internal\"");
    let ca = section.parsed("ca", |text| file_path(base, text));
    let server_name = section.parsed("server_name", |text| {
        let message = "is no name that a certificate can prove; write shop.internal, or an IP address";
        ServerName::try_from(text.to_owned()).map_err(|_| message)
    });
    let certificate = section.parsed("certificate", |text| file_path(base, text));
    if section.has("verify") {
        section.boolean("verify");
        let message = "cannot be switched: TLS that trusts anybody protects from nobody; \
                       name the endpoints' issuer with ca, and remove this";
        section.mistake("verify", message);
    }
    Some(UpstreamTlsConfig { name: name?, ca, server_name, certificate })
}
