//! Reading one file, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::pattern::is_absence;
use crate::document::MAX_FILE_BYTES;

/// What tells a file's content from an earlier one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    /// Grows also when a file's times are set back, as copy tools do.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of the file that stands at `path` now, if any can be seen.
    pub(super) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// What came of looking at a path.
#[derive(Debug)]
pub(super) enum Reading {
    Absent,
    /// Taken before the text was read, so a later change always shows.
    Text(Stamp, String),
    Unreadable(Option<Stamp>, String),
}

pub(super) fn read(path: &Path) -> Reading {
    let stamp = Stamp::at(path);
    match (stamp, read_text(path)) {
        (Some(stamp), Ok(text)) => Reading::Text(stamp, text),
        (_, Err(error)) if is_absence(&error) => Reading::Absent,
        (None, Ok(_)) => Reading::Absent,
        (stamp, Err(error)) => Reading::Unreadable(stamp, error.to_string()),
    }
}

/// Reads a regular file of at most [`MAX_FILE_BYTES`] bytes of UTF-8.
///
/// # Errors
/// Whatever the system says, and [`io::ErrorKind::InvalidData`] for a file that is none of that.
pub fn read_text(path: &Path) -> io::Result<String> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    // Opening a pipe would block until somebody writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refuse("is no regular file".to_owned()));
    }
    let file = File::open(path)?;
    let mut bytes =
        Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0).min(MAX_FILE_BYTES));
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(refuse(format!("is larger than the limit of {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| refuse(format!("is no UTF-8: {}", error.utf8_error())))
}
