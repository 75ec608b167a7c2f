//! Whom keys belong to, by either algorithm.

use topology::HashAlgorithm;

use super::hash::hash;
use super::ketama::{self, Ketama};
use super::maglev::Maglev;

#[derive(Debug, PartialEq, Eq)]
pub enum KeyTable {
    Maglev(Maglev),
    Ketama(Ketama),
}

impl KeyTable {
    pub fn algorithm(&self) -> HashAlgorithm {
        match self {
            Self::Maglev(_) => HashAlgorithm::Maglev,
            Self::Ketama(_) => HashAlgorithm::Ketama,
        }
    }

    /// The members whom a key belongs to, from the first to those that stand in for it; without an end.
    pub fn owners(&self, key: u64) -> impl Iterator<Item = usize> {
        let (maglev, ketama) = match self {
            Self::Maglev(table) => (Some(table.owners(key)), None),
            Self::Ketama(ring) => (None, Some(ring.owners(key))),
        };
        maglev.into_iter().flatten().chain(ketama.into_iter().flatten())
    }
}

/// What `algorithm` makes of a request's key.
pub fn key_of(algorithm: HashAlgorithm, bytes: impl IntoIterator<Item = u8>) -> u64 {
    match algorithm {
        HashAlgorithm::Maglev => hash(bytes),
        HashAlgorithm::Ketama => ketama::point(bytes),
    }
}
