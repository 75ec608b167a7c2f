//! Reading keys: what they are to us, and all of them at one revision.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Error, GetOptions, GetResponse, KeyValue, KvClient};

use super::write::{is_too_large, words};
use crate::registry::{Entry, Key, MAX_VALUE_BYTES};
use crate::remote::MAX_KEYS;
use crate::remote::root::Root;

/// Keys in one answer: a hundred requests for the largest fleet that we count with, and a few hundred
/// kilobytes of addresses each.
const PAGE: i64 = 1_000;
/// What all values may have together: half of what etcd keeps by default.
const MAX_TOTAL_BYTES: usize = 1 << 30;

/// A key that exists.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) entry: Entry,
    /// 0 for none.
    pub(super) lease: i64,
}

impl Found {
    pub(super) fn of(pair: KeyValue) -> Self {
        let (version, created) = (unsigned(pair.mod_revision()), unsigned(pair.create_revision()));
        let lease = pair.lease();
        let (_, value) = pair.into_key_value();
        let value = if value.len() <= MAX_VALUE_BYTES { Bytes::from(value) } else { Bytes::new() };
        Self { entry: Entry { value, version, created, ephemeral: lease != 0 }, lease }
    }
}

/// Revisions are positive.
pub(super) fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// The first path below the top, and the first one beyond: `/` is followed by `0`.
pub(super) fn range(root: &Root) -> (Vec<u8>, Vec<u8>) {
    let above = root.top().trim_end_matches('/');
    (format!("{above}/").into_bytes(), format!("{above}0").into_bytes())
}

/// Everything below the prefix.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) keys: HashMap<Key, Found>,
    /// At which it was so.
    pub(super) revision: i64,
    /// Entries without a usable value, and paths that are no key.
    pub(super) unusable: usize,
    bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{}", words(.0))]
    Client(#[from] Error),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("there are more than {MAX_KEYS} keys below the prefix")]
    TooManyKeys,
    #[error("the values below the prefix have more than {MAX_TOTAL_BYTES} bytes")]
    TooManyBytes,
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(&'static str),
}

/// One moment of all keys: the first page says which, and the others are read as of then. Should that be
/// compacted meanwhile, the servers say so and the read fails. `limit` is how long a page may take.
pub(super) async fn read_all(kv: &mut KvClient, root: &Root, limit: Duration) -> Result<Snapshot, ReadError> {
    let mut snapshot = Snapshot::default();
    let (mut from, end) = range(root);
    let mut page = PAGE;
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_revision(snapshot.revision);
        let response = match ask(kv, &from, options.clone().with_limit(page), limit).await {
            Err(ReadError::Client(error)) if is_too_large(&error) && page > 1 => {
                page = (page / 4).max(1);
                continue;
            }
            // One value above what we take in: its key, at least.
            Err(ReadError::Client(error)) if is_too_large(&error) => {
                ask(kv, &from, options.with_limit(1).with_keys_only(), limit).await?
            }
            outcome => outcome?,
        };
        page = (page * 2).min(PAGE);
        let more = response.more();
        match snapshot.add(root, response)? {
            Some(last) if more => {
                from = last;
                from.push(0);
            }
            None if more => return Err(ReadError::Nonsense("a page without keys and more to come")),
            _ => return Ok(snapshot),
        }
    }
}

async fn ask(
    kv: &mut KvClient,
    from: &[u8],
    options: GetOptions,
    limit: Duration,
) -> Result<GetResponse, ReadError> {
    let answer = tokio::time::timeout(limit, kv.get(from, Some(options))).await;
    Ok(answer.map_err(|_| ReadError::NoAnswer(limit))??)
}

impl Snapshot {
    /// Returns the last path of the page.
    fn add(&mut self, root: &Root, mut page: GetResponse) -> Result<Option<Vec<u8>>, ReadError> {
        if self.revision == 0 {
            let header = page.header().ok_or(ReadError::Nonsense("it has no header"))?;
            self.revision = header.revision();
        }
        let mut last = None;
        for pair in page.take_kvs() {
            let path = pair.key().to_vec();
            match key(root, &path) {
                Some(key) => {
                    let found = Found::of(pair);
                    self.bytes += found.entry.value.len();
                    self.unusable += usize::from(found.entry.value.is_empty());
                    self.keys.insert(key, found);
                }
                None => self.unusable += 1,
            }
            last = Some(path);
            if self.keys.len() + self.unusable > MAX_KEYS {
                return Err(ReadError::TooManyKeys);
            }
            if self.bytes > MAX_TOTAL_BYTES {
                return Err(ReadError::TooManyBytes);
            }
        }
        Ok(last)
    }
}

/// `None` for a path that is no key of ours.
pub(super) fn key(root: &Root, path: &[u8]) -> Option<Key> {
    root.key(std::str::from_utf8(path).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_has_what_is_below_the_prefix_and_nothing_else() {
        for (prefix, inside, outside) in [
            ("/caas", ["/caas/a", "/caas/\u{10ffff}"], ["/caas", "/caasx"]),
            ("/", ["/a", "/\u{10ffff}"], ["", "0"]),
        ] {
            let (from, end) = range(&Root::new(prefix));
            let covers = |path: &str| from.as_slice() <= path.as_bytes() && path.as_bytes() < end.as_slice();
            assert!(inside.into_iter().all(covers), "{prefix}");
            assert!(!outside.into_iter().any(covers), "{prefix}");
        }
    }

    #[test]
    fn a_path_that_is_no_key_is_none() {
        let root = Root::new("/caas");
        assert!(key(&root, b"/caas/app/shop").is_some());
        for bad in [&b"/caas/"[..], b"/caas/a//b", b"/caas/\xff", b"/caas/a\nb", b"/caas/../a"] {
            assert_eq!(key(&root, bad), None);
        }
    }
}
