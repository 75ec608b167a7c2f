//! A file of this machine.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Half a million addresses.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What tells a file's content from an earlier one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    pub fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Some(Self([found.dev(), found.ino(), found.len()], times))
    }
}

/// # Errors
/// Whatever the system says, and for what is no regular file of at most [`MAX_FILE_BYTES`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    // Opening a pipe would block until somebody writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refuse("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
