//! Which client certificates a listener accepts.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::{TlsError, files, provider};
use crate::config::{ClientAuthConfig, ClientAuthMode};

/// # Errors
/// [`TlsError::File`] when the CA file holds nothing to verify with.
pub(super) fn verifier(config: &ClientAuthConfig) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = files::read_roots(&config.ca)?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let builder = match config.mode {
        ClientAuthMode::Required => builder,
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
    };
    let path: PathBuf = config.ca.clone();
    builder.build().map_err(|error| TlsError::File { path, why: error.to_string() })
}
