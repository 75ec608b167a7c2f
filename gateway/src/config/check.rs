//! What `sluice check` does beyond [`super::parse`]: it follows the configuration to the files that it
//! names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use discovery::document::{Document, Mistake, Mistakes};
use discovery::file::{FilePattern, read_text};
use discovery::remote::Access;
use discovery::secrets::{Keys, SecretError};
use discovery::spec::parse_app_file;

use super::sticky::{UNSHARED_KEY, sticky_keys};
use super::{Config, RuntimeConfig, TlsConfig, UpstreamTlsConfig, VipSection, file, folder_of, read};
use crate::admin::auth::tokens::TokenFile;
use crate::balance::StickyKeys;
use crate::deploy_api::read_logins;
use crate::dns::inspect_keys;
use crate::filter;
use crate::listener::tls::{self, UpstreamProfiles};
use crate::table::compile::{Settings, endpoint_tls};

/// Reads and checks the file at `path`, all app files that it matches, and every certificate and key
/// that it names.
///
/// # Errors
/// Everything that is wrong with any of them, the configuration first.
pub fn check(path: &Path) -> Result<Config, Mistakes> {
    check_and_warn(path).map(|(config, _)| config)
}

/// As [`check`]; also what is no mistake and still hardly what anybody wants.
///
/// # Errors
/// As [`check`].
pub fn check_and_warn(path: &Path) -> Result<(Config, Vec<String>), Mistakes> {
    let (name, text) = read(path)?;
    let base = folder_of(path)?;
    let document = Document::toml(&name, &text)?;
    let (config, mut mistakes) = match document.read(|table| file::read_config(table, &base)) {
        Ok(config) => (Some(config), Mistakes::default()),
        Err(mistakes) => (None, mistakes),
    };
    let settings = config.as_ref().and_then(|config| {
        check_registry(&name, config, &mut mistakes);
        check_certificates(&name, config, &mut mistakes);
        check_admin(&name, config, &mut mistakes);
        if let Some(Err(why)) = config.vip.as_ref().map(VipSection::build) {
            mistakes.push(Mistake {
                source: name.as_str().into(),
                line: None,
                key: "vip".to_owned(),
                message: why,
            });
        }
        for (key, why) in config.dns.as_ref().map(inspect_keys).unwrap_or_default() {
            mistakes.push(of_key(&name, &key, why));
        }
        check_deploy(&name, config, &mut mistakes);
        let upstream_tls = check_upstream_tls(&name, config, &mut mistakes)?;
        Some(Settings {
            base_domain: config.gateway.base_domain.clone(),
            shards: 1,
            upstream_tls,
            tenants: Arc::default(),
            statistics: config.gateway.statistics.enabled,
            sources: Arc::new(filter::Sources::reaching(&config.gateway.jwks_networks)),
            zone: config.gateway.zone.clone(),
            sticky: Arc::new(check_sticky(&name, config, &mut mistakes)?),
        })
    });
    // Mistakes elsewhere in the file keep nobody from learning what is wrong with the apps.
    let (apps, _) = document.read_leniently(|table| file::read_apps(&table, &base));
    let mut warnings = config.as_ref().map(Config::warnings).unwrap_or_default();
    check_apps(&apps.files, settings.as_ref(), &mut mistakes, &mut warnings);
    match config {
        Some(config) => mistakes.or((config, warnings)),
        None => Err(mistakes),
    }
}

/// `settings` of a gateway so configured, where it could be.
fn check_apps(
    patterns: &[FilePattern],
    settings: Option<&Settings>,
    mistakes: &mut Mistakes,
    warnings: &mut Vec<String>,
) {
    let mut paths: Vec<PathBuf> = patterns.iter().flat_map(FilePattern::files).collect();
    paths.sort();
    paths.dedup();
    let mut holders = HashMap::new();
    let sources = settings.map_or_else(Arc::default, |settings| settings.sources.clone());
    for path in paths {
        let name = path.display().to_string();
        let parsed = read_text(&path)
            .map_err(|error| Mistakes::one(&Arc::from(&*name), None, error.to_string()))
            .and_then(|text| parse_app_file(&name, &text));
        match parsed {
            Err(found) => mistakes.append(found),
            Ok(app) => {
                if let Some(filters) = &app.spec.filters {
                    let why = filter::inspect(&app.id, filters, &sources).into_iter();
                    why.for_each(|why| mistakes.push(of_key(&name, "filters", why)));
                }
                if let Some(Err(why)) = settings.map(|settings| endpoint_tls(settings, &app)) {
                    mistakes.push(of_key(&name, "tls", why));
                }
                if app.spec.sticky.is_some() && settings.is_some_and(|settings| !settings.sticky.is_shared())
                {
                    warnings.push(format!("{name}: sticky: {UNSHARED_KEY}"));
                }
                match holders.entry(app.id) {
                    Entry::Vacant(free) => drop(free.insert(name)),
                    Entry::Occupied(held) => {
                        let message =
                            format!("app {:?} is in {} already; keep one of the two", held.key(), held.get());
                        mistakes.push(of_key(&name, "id", message));
                    }
                }
            }
        }
    }
}

fn check_registry(name: &str, config: &Config, mistakes: &mut Mistakes) {
    if let Some(Err(error)) = config.registry_keys.as_deref().map(Keys::open) {
        mistakes.push(of_key(name, "registry.key_file", error.to_string()));
    }
    for (key, message) in config.registry.access().map(inspect_access).unwrap_or_default() {
        mistakes.push(of_key(name, &format!("registry.{key}"), message));
    }
}

/// What is wrong with the files that prove who we are to a registry, each with the key that names it.
pub fn inspect_access(access: &Access) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if let Err(error) = access.check_password() {
        found.push(("password_file", error.to_string()));
    }
    let profile = access.tls.as_ref().map(|tls| UpstreamTlsConfig {
        name: Arc::from("registry"),
        ca: tls.ca.clone(),
        server_name: None,
        certificate: tls.certificate.clone(),
    });
    if let Err(error) = UpstreamProfiles::load(profile.as_slice()) {
        found.push(("tls", error.to_string()));
    }
    found
}

/// `None` when something is wrong with them.
fn check_sticky(name: &str, config: &Config, mistakes: &mut Mistakes) -> Option<StickyKeys> {
    let keys = sticky_keys(config.gateway.sticky_key_file.as_deref());
    let report = |error: SecretError| {
        mistakes.push(of_key(name, "gateway.sticky_key_file", error.to_string()));
    };
    keys.map_err(report).ok()
}

fn check_certificates(name: &str, config: &Config, mistakes: &mut Mistakes) {
    for (at, listener) in config.gateway.listeners.iter().enumerate() {
        if let Some(tls) = listener.protocol.tls() {
            check_tls((name, &format!("gateway.listener[{at}].tls")), tls, mistakes);
        }
    }
}

fn check_tls((name, key): (&str, &str), tls: &TlsConfig, mistakes: &mut Mistakes) {
    let mut report =
        |below: &str, message: String| mistakes.push(of_key(name, &format!("{key}.{below}"), message));
    for pattern in tls.certificates.iter().filter(|pattern| pattern.files().is_empty()) {
        report("certificates", format!("no file matches {pattern}"));
    }
    for (path, why) in tls::inspect(&tls.certificates) {
        report("certificates", format!("{}: {why}", path.display()));
    }
    if let Some(auth) = &tls.client_auth
        && let Err(error) = tls::inspect_client_ca(auth)
    {
        report("client_ca", error.to_string());
    }
}

fn check_admin(name: &str, config: &Config, mistakes: &mut Mistakes) {
    let Some(admin) = &config.admin else { return };
    if let Some(tls) = &admin.tls {
        check_tls((name, "admin.tls"), tls, mistakes);
    }
    let Some(path) = &admin.tokens else { return };
    for why in TokenFile::open(path).err().unwrap_or_default() {
        mistakes.push(of_key(name, "admin.tokens", format!("{}: {why}", path.display())));
    }
}

fn check_deploy(name: &str, config: &Config, mistakes: &mut Mistakes) {
    let Some(deploy) = &config.deploy else { return };
    if let Some(tls) = &deploy.tls {
        check_tls((name, "deploy.tls"), tls, mistakes);
    }
    if let RuntimeConfig::Docker(docker) = &deploy.runtime
        && let Some(Err(why)) = docker.logins.as_deref().map(read_logins)
    {
        mistakes.push(of_key(name, "deploy.docker.logins", why));
    }
}

/// `None` when something is wrong with them.
fn check_upstream_tls(name: &str, config: &Config, mistakes: &mut Mistakes) -> Option<Arc<UpstreamProfiles>> {
    let profiles = &config.gateway.upstream_tls;
    for (at, profile) in profiles.iter().enumerate() {
        if let Err(error) = UpstreamProfiles::load(std::slice::from_ref(profile)) {
            mistakes.push(of_key(name, &format!("gateway.upstream_tls[{at}]"), error.to_string()));
        }
    }
    UpstreamProfiles::load(profiles).ok()
}

fn of_key(source: &str, key: &str, message: String) -> Mistake {
    Mistake { source: source.into(), line: None, key: key.to_owned(), message }
}
