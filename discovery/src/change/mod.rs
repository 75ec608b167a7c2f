//! Changes of what the registry keeps for operators and tenants: apps, routes, certificates, operators' words.
//!
//! A change is a set of puts and deletes with preconditions. Its values are read by the very code that reads the registry
//! and files, and all mistakes are told at once, before anything is written. It is written in one transaction together
//! with the record of it ([`history`]), whose key is the next free number: of two changes made at once one is first, and
//! the other is made anew on what the first left. What a gateway alone can judge it does as a [`Judge`].

mod diff;
mod editor;
mod entry;
pub mod history;
mod judge;
mod rollback;
#[cfg(test)]
mod tests;
mod value;

pub use diff::{Difference, MAX_DIFFERENCES, differences};
pub use editor::{Editor, Outcome, State};
pub use entry::{BadEntry, EntryKey, Kind};
pub use judge::{Judge, Parsed, Verdict};
pub use rollback::Scope;
pub use value::Stored;

use serde_json::Value;

use crate::document::Mistakes;
use crate::registry::RegistryError;

/// Entries of one change. Beside them stand the record and the records that it replaces, within
/// [`crate::registry::MAX_STEPS`].
pub const MAX_EDITS: usize = 100;
/// Of a message, in characters: a sentence or two.
pub const MAX_MESSAGE: usize = 1_000;

/// What becomes of one entry.
#[derive(Debug, Clone)]
pub struct Edit {
    pub entry: EntryKey,
    pub wanted: Wanted,
    pub precondition: Precondition,
}

/// What an entry is to be.
#[derive(Debug, Clone)]
pub enum Wanted {
    Absent,
    /// An object, or the text of a sealed value.
    Json(Value),
    /// As [`Self::Json`], to be sealed for its place.
    Seal(Value),
    /// What once stood there.
    Former(Stored),
}

/// What a change requires of an entry as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    Any,
    Absent,
    Present,
    /// One of the versions that the caller knows.
    Version(u64),
}

/// Who changes, when and why.
#[derive(Debug, Clone)]
pub struct Occasion {
    pub author: String,
    pub message: String,
    /// Seconds since 1970.
    pub time: i64,
}

/// What became, or would become, of one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub entry: EntryKey,
    pub before: Option<Stored>,
    pub after: Option<Stored>,
}

impl Changed {
    pub fn action(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        }
    }

    pub fn differences(&self) -> Vec<Difference> {
        differences(self.before.as_ref(), self.after.as_ref())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    Invalid(Mistakes),
    #[error("{entry} does not exist")]
    Missing { entry: EntryKey },
    /// `version`: as it is; `None`: absent.
    #[error("{entry} is not as the precondition wants it")]
    Conflict { entry: EntryKey, version: Option<u64> },
    #[error("the configuration is not as the precondition wants it")]
    Stale { current: String },
    #[error("a change of {0} entries is above the limit of {MAX_EDITS}; make several changes")]
    TooMany(usize),
    #[error(
        "the change has {bytes} bytes with its record, {most} at most can be written at once; make several changes"
    )]
    TooLarge { bytes: usize, most: usize },
    #[error("revision {to} is not kept: {kept}")]
    Forgotten { to: u64, kept: String },
    /// Somebody else has changed something since it was looked at.
    #[error("something was changed meanwhile; try again")]
    Moved,
    #[error("others keep changing the same entries; try again")]
    Busy,
    #[error("the registry's history cannot be used: {0}")]
    History(String),
    #[error("the registry cannot be changed")]
    Registry(#[from] RegistryError),
}
