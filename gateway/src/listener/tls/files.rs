//! Reading PEM and DER files, and noticing that they changed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use discovery::file::FilePattern;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::Certificate;
use super::{TlsError, client_auth, ocsp, unix_now};
use crate::config::ClientAuthConfig;

/// Bounds what one file can make us hold: a bundle of all public roots has some 250 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a file was when it was read. Two writes within a clock tick differ in size or inode, since
/// renewals write another file and rename it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None`: there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The files that a listener's patterns mean now, each once, in order.
///
/// # Errors
/// [`TlsError::NoFile`] with the first pattern that no file matches.
pub(super) fn expand(patterns: &[FilePattern]) -> Result<Vec<PathBuf>, TlsError> {
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

/// # Errors
/// In words: that it cannot be read, or is too large to be what it should.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let size = path.metadata()?.len();
        if size > MAX_FILE_BYTES {
            let message = format!("has {size} bytes; the limit is {MAX_FILE_BYTES}");
            return Err(io::Error::other(message));
        }
        std::fs::read(path)
    };
    read().map_err(|error| format!("cannot be read: {error}"))
}

/// # Errors
/// [`TlsError::File`] when it holds no certificate that can be trusted as an issuer.
pub(super) fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let bad = |why: String| TlsError::File { path: path.to_owned(), why };
    let pem = read(path).map_err(bad)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| bad(format!("a certificate cannot be decoded: {error}")))?;
        roots.add(certificate).map_err(|error| bad(format!("holds what is no certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(bad("has no certificate; write the issuers' certificates in PEM".to_owned()));
    }
    Ok(roots)
}

/// Whether a listener could verify clients so: for `sluice check`.
///
/// # Errors
/// [`TlsError::File`] when it could not.
pub fn inspect_client_ca(config: &ClientAuthConfig) -> Result<(), TlsError> {
    client_auth::verifier(config).map(drop)
}

/// Whether a chain and its key could be served, and what is wrong with their dates now.
///
/// # Errors
/// In words: what is wrong, and what to write.
pub fn inspect_pem(pem: &[u8]) -> Result<Option<String>, String> {
    Certificate::of_pem(pem).map(|certificate| certificate.validity.complaint(unix_now()))
}

/// What is wrong with the certificates that `patterns` mean, as a start would find it now: for `sluice
/// check`. An out of date one counts, although a start would make do with it.
pub fn inspect(patterns: &[FilePattern]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut files: Vec<_> = patterns.iter().flat_map(FilePattern::files).collect();
    files.sort();
    files.dedup();
    for path in files {
        match Certificate::read(&path) {
            Err(why) => found.push((path, why)),
            Ok(certificate) => {
                let now = unix_now();
                if let Some(why) = certificate.validity.complaint(now) {
                    found.push((path.clone(), why));
                }
                let staple = ocsp::path_beside(&path);
                if staple.exists()
                    && let Err(why) = ocsp::read(&staple, &certificate.serial, now)
                {
                    found.push((staple, why));
                }
            }
        }
    }
    found
}
