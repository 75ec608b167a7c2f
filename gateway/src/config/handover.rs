//! The keys of the hand-over to a new process.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::values::file_path;

/// Nobody waits for a process that has handed over: a download or a shell session of an hour ends by
/// itself. Beyond that the memory of a process that does nothing else is worth more.
pub(super) const DEFAULT_HANDOVER_DRAIN: Duration = Duration::from_secs(3600);
/// As long as a TCP connection may be silent.
pub(super) const MAX_HANDOVER_DRAIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// What the kernel takes (unix(7)), without the zero at its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

pub(super) fn handover_path(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = file_path(base, text)?;
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(format!(
            "is a path of {length} bytes, and a socket's has at most {MAX_SOCKET_PATH_BYTES}; write one such as \"/run/sluice/handover.sock\""
        ));
    }
    Ok(path)
}
