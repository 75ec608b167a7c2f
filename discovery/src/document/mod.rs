//! One way to read what people and registrars write: TOML files and JSON values become the same tree,
//! and a [`Table`] reads that tree and collects every mistake with its place.
//!
//! Nothing here knows what a key means. Sizes are bounded before parsing, nesting by the parsers and
//! again by the tree, the number of reported mistakes by [`MAX_REPORTED`]; no input panics.

mod duration;
mod json;
mod mistake;
mod nearest;
mod nesting;
mod node;
mod size;
mod table;
mod toml;

use std::sync::Arc;

pub use duration::{parse_duration, show_duration};
pub use mistake::{MAX_REPORTED, Mistake, Mistakes};
pub use nearest::nearest;
pub use size::{parse_size, show_size};
pub use table::{Table, pick};

use mistake::Log;
use node::Field;

/// A file larger than this is refused unread. 10,000 endpoints, the most that one app may list, take
/// about 900 KiB.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A parsed text whose keys nobody has judged yet.
#[derive(Debug)]
pub struct Document {
    source: Arc<str>,
    fields: Vec<Field>,
}

impl Document {
    /// Reads TOML. `source` is what mistakes name as their place: a file's path.
    ///
    /// # Errors
    /// One [`Mistake`] when `text` is larger than [`MAX_FILE_BYTES`], nested too deeply, or no TOML.
    pub fn toml(source: &str, text: &str) -> Result<Self, Mistakes> {
        let source: Arc<str> = Arc::from(source);
        match toml::parse(text) {
            Ok(fields) => Ok(Self { source, fields }),
            Err((line, message)) => Err(Mistakes::one(&source, line, message)),
        }
    }

    /// Reads a JSON object. `source` is what mistakes name as their place: a registry key. A member that
    /// is `null` counts as absent.
    ///
    /// # Errors
    /// One [`Mistake`] when `bytes` are more than a registry value may have, nested too deeply, or no
    /// JSON object in UTF-8.
    pub fn json(source: &str, bytes: &[u8]) -> Result<Self, Mistakes> {
        let source: Arc<str> = Arc::from(source);
        match json::parse(bytes) {
            Ok(fields) => Ok(Self { source, fields }),
            Err(message) => Err(Mistakes::one(&source, None, message)),
        }
    }

    /// As JSON has it.
    ///
    /// # Errors
    /// Values that JSON has no word for, such as dates.
    pub fn to_json(&self) -> Result<serde_json::Value, Mistakes> {
        json::of_fields(&self.fields)
            .map_err(|(line, what)| Mistakes::one(&self.source, line, format!("{what} is no value here")))
    }

    /// Runs `reader` over the whole document.
    ///
    /// # Errors
    /// All the mistakes that `reader` reported, in the order of their lines.
    pub fn read<T>(&self, reader: impl FnOnce(Table<'_>) -> Option<T>) -> Result<T, Mistakes> {
        let log = Log::new(Arc::clone(&self.source));
        let read = reader(Table::root(&self.fields, &log));
        log.conclude(read)
    }

    /// As [`Document::read`], but keeps what could be read beside the mistakes.
    pub fn read_leniently<T>(&self, reader: impl FnOnce(Table<'_>) -> T) -> (T, Mistakes) {
        let log = Log::new(Arc::clone(&self.source));
        let read = reader(Table::root(&self.fields, &log));
        (read, log.into_mistakes())
    }
}

#[cfg(test)]
mod tests;
