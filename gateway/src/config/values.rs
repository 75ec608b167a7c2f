//! Values that several sections have.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Who has more sorts of app files sorts them by folder: `apps/*/*.toml`.
pub(super) const MAX_PATTERNS: usize = 100;

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
