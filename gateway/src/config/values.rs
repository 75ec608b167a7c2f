//! Values that several sections have.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who has more sorts of app files sorts them by folder: `apps/*/*.toml`.
pub(super) const MAX_PATTERNS: usize = 100;

/// A name becomes a metric label.
const MAX_LABEL_BYTES: usize = 64;

/// The name of a listener or a profile.
pub(super) fn label(text: &str) -> Result<Arc<str>, String> {
    let label = (1..=MAX_LABEL_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let message = || format!("is no name; write 1 to {MAX_LABEL_BYTES} of a-z A-Z 0-9 . _ -");
    label.then(|| Arc::from(text)).ok_or_else(message)
}

/// A path as seen from `base`.
pub(super) fn file_path(base: &Path, text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() || text.contains('\0') {
        return Err("is no path");
    }
    Ok(base.join(text))
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address; write IP:port, such as \"0.0.0.0:8080\""))
}
