//! Why TLS cannot be set up.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{pattern}: no file matches; each file holds a chain and its key in PEM")]
    NoFile { pattern: String },
    /// Every one of the files, with what is wrong with it.
    #[error("no certificate can be used: {0}")]
    NoCertificate(String),
    #[error("{path}: {why}")]
    File { path: PathBuf, why: String },
    #[error("the system has no usable root certificates ({0}); install ca-certificates, or name a ca")]
    NoSystemRoots(String),
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}
