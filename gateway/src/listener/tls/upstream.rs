//! TLS to endpoints: whom we believe, and who we say we are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::certificate::Validity;
use super::files::{self, Stamp};
use super::{TlsError, provider};
use crate::config::UpstreamTlsConfig;

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    Http1,
    H2,
    /// Plain bytes: nothing is negotiated.
    None,
}

/// The `[[gateway.upstream_tls]]` sections.
#[derive(Debug, Default)]
pub struct UpstreamProfiles(Vec<Arc<UpstreamTls>>);

/// One profile. Its configurations are replaced when its files change; connections stay. Sessions are
/// resumed within a profile and protocol, never across.
#[derive(Debug)]
pub struct UpstreamTls {
    pub name: Arc<str>,
    /// For apps that name none.
    pub server_name: Option<ServerName<'static>>,
    source: UpstreamTlsConfig,
    configs: ArcSwap<Configs>,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Configs {
    http1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    bare: Arc<ClientConfig>,
}

#[derive(Debug)]
struct Files {
    stamps: [Option<Stamp>; 2],
    /// Of the client certificate.
    validity: Option<Validity>,
    reject: Option<String>,
}

/// How an app's endpoints are spoken to: the profile, and the name that they must prove.
#[derive(Debug)]
pub struct EndpointTls {
    pub profile: Arc<UpstreamTls>,
    pub server_name: ServerName<'static>,
}

impl EndpointTls {
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.profile, &other.profile) && self.server_name == other.server_name
    }

    /// For the next connection.
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        self.profile.config(alpn)
    }
}

impl healthcheck::ProbeTls for EndpointTls {
    fn client_config(&self, protocol: topology::Protocol) -> Arc<ClientConfig> {
        match protocol {
            topology::Protocol::Http1 => self.config(Alpn::Http1),
            topology::Protocol::Http2 => self.config(Alpn::H2),
            topology::Protocol::Tcp | topology::Protocol::Udp => self.config(Alpn::None),
        }
    }

    fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

impl UpstreamProfiles {
    /// # Errors
    /// [`TlsError`]: which file of which profile cannot be used.
    pub fn load(sections: &[UpstreamTlsConfig]) -> Result<Arc<Self>, TlsError> {
        let profiles = sections.iter().map(|section| UpstreamTls::load(section).map(Arc::new));
        Ok(Arc::new(Self(profiles.collect::<Result<_, _>>()?)))
    }

    pub fn find(&self, name: &str) -> Option<&Arc<UpstreamTls>> {
        self.0.iter().find(|profile| *profile.name == *name)
    }

    /// For messages: what could have been meant.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|profile| &*profile.name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<UpstreamTls>> {
        self.0.iter()
    }

    pub(super) fn refresh(&self) {
        self.0.iter().for_each(|profile| profile.refresh(false));
    }

    pub(super) fn reload(&self) {
        self.0.iter().for_each(|profile| profile.refresh(profile.source.ca.is_none()));
    }

    pub(super) fn dates(&self) -> impl Iterator<Item = (PathBuf, i64)> {
        self.0.iter().filter_map(|profile| profile.certificate_expiry())
    }
}

impl UpstreamTls {
    fn load(source: &UpstreamTlsConfig) -> Result<Self, TlsError> {
        let stamps = stamps(source);
        let (configs, validity) = Configs::load(source)?;
        if let (Some(path), Some(validity)) = (&source.certificate, validity)
            && let Some(why) = validity.complaint(super::unix_now())
        {
            tracing::error!(file = %path.display(), %why, "client certificate out of date: endpoints will refuse it");
        }
        Ok(Self {
            name: source.name.clone(),
            server_name: source.server_name.clone(),
            source: source.clone(),
            configs: ArcSwap::from_pointee(configs),
            files: Mutex::new(Files { stamps, validity, reject: None }),
        })
    }

    /// For the next connection.
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let configs = self.configs.load();
        match alpn {
            Alpn::Http1 => configs.http1.clone(),
            Alpn::H2 => configs.h2.clone(),
            Alpn::None => configs.bare.clone(),
        }
    }

    /// The client certificate's file and its end in seconds since 1970.
    pub fn certificate_expiry(&self) -> Option<(PathBuf, i64)> {
        Some((self.source.certificate.clone()?, self.files().validity?.until))
    }

    /// Why the files as they are now are not in force.
    pub fn reject(&self) -> Option<String> {
        self.files().reject.clone()
    }

    fn refresh(&self, even_if_unchanged: bool) {
        let mut files = self.files();
        let stamps = stamps(&self.source);
        if stamps == files.stamps && !even_if_unchanged {
            return;
        }
        files.stamps = stamps;
        let now = super::unix_now();
        let loaded =
            Configs::load(&self.source).map_err(|error| error.to_string()).and_then(|(configs, validity)| {
                match validity.and_then(|validity| validity.complaint(now)) {
                    Some(why) => Err(format!("the client certificate {why}")),
                    None => Ok((configs, validity)),
                }
            });
        match loaded {
            Ok((configs, validity)) => {
                tracing::info!(profile = %self.name, "new upstream TLS files in force");
                self.configs.store(Arc::new(configs));
                (files.validity, files.reject) = (validity, None);
            }
            Err(why) => {
                tracing::error!(profile = %self.name, %why, "upstream TLS files rejected: the former ones stay");
                files.reject = Some(why);
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(source: &UpstreamTlsConfig) -> [Option<Stamp>; 2] {
    [&source.ca, &source.certificate].map(|path| path.as_deref().and_then(Stamp::of))
}

impl Configs {
    fn load(source: &UpstreamTlsConfig) -> Result<(Self, Option<Validity>), TlsError> {
        let roots = match &source.ca {
            Some(path) => files::read_roots(path)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let (bare, validity) = match &source.certificate {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let bad = |why: String| TlsError::File { path: path.clone(), why };
                let (chain, key, validity) = client_certificate(path).map_err(bad)?;
                let config = builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| bad(format!("the key is not the first certificate's: {error}")))?;
                (config, Some(validity))
            }
        };
        let speaking = |alpn: &[u8]| {
            let mut config = bare.clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            config.resumption = rustls::client::Resumption::in_memory_sessions(MAX_SESSIONS);
            Arc::new(config)
        };
        let configs = Self { http1: speaking(b"http/1.1"), h2: speaking(b"h2"), bare: Arc::new(bare) };
        Ok((configs, validity))
    }
}

/// By server name: as many apps of one profile resume their sessions.
const MAX_SESSIONS: usize = 4096;

/// The system's, not a list that is compiled in: an operator who distrusts an authority, or trusts his
/// own, has said so there, and its updates reach us without a new release.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Bundles hold a few that no verifier takes; one good root is enough to go on.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoSystemRoots(errors.join("; ")));
    }
    Ok(roots)
}

type ClientCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Validity);

fn client_certificate(path: &Path) -> Result<ClientCertificate, String> {
    use x509_parser::prelude::FromDer as _;
    let pem = files::read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("a certificate cannot be decoded: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| format!("has no usable private key; append the leaf's key: {error}"))?;
    super::chain::check_order(&chain)?;
    let leaf = chain.first().ok_or("has no certificate; add the chain, leaf first")?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf)
        .map_err(|error| format!("cannot be parsed: {error}"))?;
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let validity = Validity { from, until };
    Ok((chain, key, validity))
}
