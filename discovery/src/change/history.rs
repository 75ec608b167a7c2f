//! What was changed: `history/{revision}`, one record for each change, the last [`MAX_RECORDS`] of them.
//!
//! Revisions count changes, from 1. A record has each entry as it was and as it became, as the registry had it: what is sealed
//! there is sealed here. With a key file a record is sealed as a whole, since a value may have stood there unsealed before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use imbl::OrdMap;
use serde_json::{Map, Value, json};

use super::{Changed, EntryKey, Occasion, Stored};
use crate::registry::{Entry, Key};
use crate::secrets::{Keys, unseal};

/// A hundred changes a day are kept for two days and a half; everything older is in whoever's repository it came from.
pub const MAX_RECORDS: usize = 256;
/// All gateways hold all records in memory.
pub const MAX_BYTES: usize = 8 << 20;
/// Records that one change can remove, within one transaction. Large records after hundreds of small ones exceed
/// [`MAX_BYTES`] by thirteen of them for a while.
pub(super) const MAX_REMOVED: usize = 20;

const FAMILY: &str = "history/";
/// Digits of a revision in its key, so that keys are in order.
const DIGITS: usize = 12;

/// One change that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub revision: u64,
    /// Seconds since 1970.
    pub time: i64,
    pub author: String,
    pub message: String,
    /// The revision that this change went back to.
    pub rolled_back_to: Option<u64>,
    pub changes: Vec<Changed>,
}

/// Where the record of a revision stands.
pub fn key(revision: u64) -> Key {
    Key::parse(&format!("{FAMILY}{revision:0DIGITS$}")).expect("digits are a segment")
}

/// `None`: no record stands there.
pub fn revision_of(key: &Key) -> Option<u64> {
    let digits = key.as_str().strip_prefix(FAMILY)?;
    let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().filter(|revision| *revision > 0)
}

/// The records' keys and entries, oldest first.
pub fn kept(entries: &OrdMap<Key, Entry>) -> impl DoubleEndedIterator<Item = (u64, &Key, &Entry)> {
    // "0" is the character after "/".
    let range =
        entries.range::<_, str>((std::ops::Bound::Included(FAMILY), std::ops::Bound::Excluded("history0")));
    range.filter_map(|(key, entry)| Some((revision_of(key)?, key, entry)))
}

/// Which records go so that one of `bytes` bytes has room: the oldest, with their versions.
pub(super) fn overdue(entries: &OrdMap<Key, Entry>, bytes: usize) -> Vec<(Key, u64)> {
    let (mut count, mut total) = (1, bytes);
    for (_, _, entry) in kept(entries) {
        (count, total) = (count + 1, total + entry.value.len());
    }
    let mut going = Vec::new();
    for (_, key, entry) in kept(entries) {
        if (count <= MAX_RECORDS && total <= MAX_BYTES) || going.len() == MAX_REMOVED {
            break;
        }
        (count, total) = (count - 1, total - entry.value.len());
        going.push((key.clone(), entry.version));
    }
    going
}

impl Record {
    pub(super) fn new(
        revision: u64,
        occasion: &Occasion,
        rolled_back_to: Option<u64>,
        changes: Vec<Changed>,
    ) -> Self {
        let Occasion { author, message, time } = occasion.clone();
        Self { revision, time, author, message, rolled_back_to, changes }
    }

    /// # Errors
    /// What keeps it from being sealed.
    pub(super) fn encode(&self, keys: Option<&Keys>) -> Result<Bytes, String> {
        let changes: Vec<_> = self.changes.iter().map(encode_change).collect();
        let mut record = json!({
            "revision": self.revision, "time": self.time, "author": self.author, "message": self.message,
            "changes": changes,
        });
        if let Some(to) = self.rolled_back_to {
            record["rolled_back_to"] = to.into();
        }
        let plain = record.to_string();
        match keys {
            Some(keys) => {
                let sealed = keys.seal(&key(self.revision), plain.as_bytes());
                sealed.map(Bytes::from).map_err(|error| error.to_string())
            }
            None => Ok(Bytes::from(plain)),
        }
    }

    /// Whoever can write to the registry may have written it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(revision: u64, value: &[u8], keys: Option<&Keys>) -> Result<Self, String> {
        let place = key(revision);
        let plain = unseal(keys, &place, value).map_err(|error| format!("{place} {error}"))?;
        let bad = || format!("{place} is no record of a change");
        let record: Map<String, Value> = serde_json::from_slice(&plain).map_err(|_| bad())?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let changes = record.get("changes").and_then(Value::as_array).ok_or_else(bad)?;
        let changes: Option<Vec<_>> = changes.iter().map(decode_change).collect();
        Ok(Self {
            revision,
            time: record.get("time").and_then(Value::as_i64).ok_or_else(bad)?,
            author: text("author").ok_or_else(bad)?,
            message: text("message").unwrap_or_default(),
            rolled_back_to: record.get("rolled_back_to").and_then(Value::as_u64),
            changes: changes.ok_or_else(bad)?,
        })
    }
}

fn encode_change(change: &Changed) -> Value {
    let value = |value: &Option<Stored>| match value.as_ref().map(|value| std::str::from_utf8(value.bytes()))
    {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(_)) => {
            json!({ "base64": STANDARD.encode(value.as_ref().map_or(&[][..], |value| value.bytes())) })
        }
    };
    json!({
        "key": change.entry.to_string(), "before": value(&change.before), "after": value(&change.after),
    })
}

fn decode_change(change: &Value) -> Option<Changed> {
    let value = |name: &str| match change.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(Stored::of_bytes(Bytes::copy_from_slice(text.as_bytes())))),
        Some(other) => {
            let bytes = STANDARD.decode(other.get("base64")?.as_str()?).ok()?;
            Some(Some(Stored::of_bytes(bytes.into())))
        }
    };
    let entry = EntryKey::parse(change.get("key")?.as_str()?).ok()?;
    Some(Changed { entry, before: value("before")?, after: value("after")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed() -> impl Strategy<Value = Changed> {
        let value = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        ("[a-z]{1,8}", value(), value()).prop_map(|(id, before, after)| {
            let stored = |bytes: Option<Vec<u8>>| bytes.map(|bytes| Stored::of_bytes(bytes.into()));
            let entry = EntryKey::parse(&format!("app/{id}")).unwrap();
            Changed { entry, before: stored(before), after: stored(after) }
        })
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_read(
            changes in prop::collection::vec(changed(), 0..5), revision in 1u64.., time: i64, message in ".{0,50}",
        ) {
            let rolled_back_to = (time % 2 == 0).then_some(7);
            let record = Record { revision, time, author: "alice".into(), message, rolled_back_to, changes };
            let written = record.encode(None).unwrap();
            prop_assert_eq!(Record::decode(revision, &written, None), Ok(record));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(1, &bytes, None);
        }

        #[test]
        fn what_is_kept_stays_within_its_bounds(sizes in prop::collection::vec(1usize..200_000, 0..400)) {
            let mut entries = OrdMap::new();
            for (revision, size) in (1u64..).zip(sizes) {
                for (key, _) in overdue(&entries, size) {
                    entries.remove(&key);
                }
                let value = Bytes::from(vec![b'x'; size]);
                entries.insert(key(revision), Entry { value, version: revision, created: revision, ephemeral: false });
                prop_assert!(kept(&entries).count() <= MAX_RECORDS);
                prop_assert!(kept(&entries).map(|(_, _, entry)| entry.value.len()).sum::<usize>() <= MAX_BYTES + 13 * 200_000);
                prop_assert_eq!(kept(&entries).next_back().unwrap().0, revision, "the newest is kept");
            }
        }
    }

    #[test]
    fn keys_of_records_are_in_the_order_of_their_revisions() {
        assert_eq!(key(12).as_str(), "history/000000000012");
        assert!(key(9) < key(10) && key(99) < key(100));
        for revision in [1, 12, u64::MAX] {
            assert_eq!(revision_of(&key(revision)), Some(revision));
        }
        for other in ["history/12", "history/x", "history/00000000000a", "history/000000000000", "app/1"] {
            assert_eq!(revision_of(&Key::parse(other).unwrap()), None, "{other}");
        }
    }
}
