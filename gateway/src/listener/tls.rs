//! Certificates by SNI, from PEM files that may change while we serve.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use discovery::file::FilePattern;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::stream::NotesServerName;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{pattern}: no file matches; each file holds a chain and its key in PEM")]
    NoFile { pattern: String },
    #[error("cannot read {path}: {why}")]
    Read { path: PathBuf, why: String },
    #[error("{path}: {why}")]
    Certificate { path: PathBuf, why: String },
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// The certificates of one listener, replaced as a whole.
#[derive(Debug)]
pub struct Certificates {
    patterns: Vec<FilePattern>,
    current: ArcSwap<CertificateSet>,
}

#[derive(Debug)]
struct CertificateSet {
    /// By DNS name; wildcards by what follows `*.`.
    exact: HashMap<String, Arc<CertifiedKey>>,
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name no host, or none that we know: of the first file.
    fallback: Arc<CertifiedKey>,
    /// What the files were when they were read.
    stamp: Vec<(PathBuf, Option<SystemTime>, u64)>,
}

impl Certificates {
    /// # Errors
    /// [`TlsError`] with the first file that cannot be used.
    pub fn load(patterns: &[FilePattern]) -> Result<Arc<Self>, TlsError> {
        let current = CertificateSet::load(patterns)?;
        Ok(Arc::new(Self { patterns: patterns.to_vec(), current: ArcSwap::from_pointee(current) }))
    }

    /// Reads the files again if one has changed; `Ok(true)` when new certificates are in force.
    ///
    /// # Errors
    /// [`TlsError`]: the former certificates stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        if stamp(&files(&self.patterns)?) == self.current.load().stamp {
            return Ok(false);
        }
        self.current.store(Arc::new(CertificateSet::load(&self.patterns)?));
        Ok(true)
    }

    /// TLS 1.2 and 1.3, session tickets, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`TlsError::Setup`] when the cryptography library refuses.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NotesServerName(self.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.current.load();
        let found = hello.server_name().and_then(|name| {
            // RFC 6125 section 6.4.3: a wildcard stands for one label.
            let parent = || name.split_once('.').and_then(|(_, parent)| set.wildcard.get(parent));
            set.exact.get(name).or_else(parent)
        });
        Some(found.unwrap_or(&set.fallback).clone())
    }
}

impl CertificateSet {
    fn load(patterns: &[FilePattern]) -> Result<Self, TlsError> {
        let files = files(patterns)?;
        let stamp = stamp(&files);
        let (mut exact, mut wildcard, mut fallback) = (HashMap::new(), HashMap::new(), None);
        for path in &files {
            let (key, names) = load_file(path)?;
            for name in names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| key.clone()),
                    None => exact.entry(name).or_insert_with(|| key.clone()),
                };
            }
            fallback.get_or_insert(key);
        }
        let fallback = fallback.ok_or_else(|| TlsError::NoFile { pattern: String::new() })?;
        Ok(Self { exact, wildcard, fallback, stamp })
    }
}

fn files(patterns: &[FilePattern]) -> Result<Vec<PathBuf>, TlsError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let matching = pattern.files();
        if matching.is_empty() {
            return Err(TlsError::NoFile { pattern: pattern.as_str().to_owned() });
        }
        files.extend(matching);
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn stamp(files: &[PathBuf]) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let of = |path: &PathBuf| {
        let metadata = path.metadata().ok();
        (path.clone(), metadata.as_ref().and_then(|m| m.modified().ok()), metadata.map_or(0, |m| m.len()))
    };
    files.iter().map(of).collect()
}

/// The chain and key of one file, checked against each other, and the DNS names that it is for.
fn load_file(path: &Path) -> Result<(Arc<CertifiedKey>, Vec<String>), TlsError> {
    let bad = |why: String| TlsError::Certificate { path: path.to_owned(), why };
    let pem = std::fs::read(path)
        .map_err(|error| TlsError::Read { path: path.to_owned(), why: error.to_string() })?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(format!("a certificate cannot be decoded: {error}")))?;
    let leaf =
        chain.first().ok_or_else(|| bad("has no certificate; add the chain, leaf first".into()))?.clone();
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| bad(format!("has no usable private key; append the leaf's key: {error}")))?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| bad(format!("chain and key do not belong together: {error}")))?;
    let parsed =
        webpki::EndEntityCert::try_from(&leaf).map_err(|error| bad(format!("cannot be parsed: {error}")))?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    Ok((Arc::new(key), names))
}
