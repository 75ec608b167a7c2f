//! Names of endpoints that clients keep in a cookie: opaque, signed, the same on every gateway that has the keys.
//!
//! A name is nothing but a signature: HMAC-SHA-256 of (app, version, instance), cut to 96 bits, behind one of (app,
//! version). Nothing is decoded: what a client sends is looked up among the names that there are, and who has no key
//! finds none. It says nothing of a client, since all clients of one endpoint have the same one.

use std::fmt;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use topology::{AppId, InstanceKey, VersionId};

/// Of 4,096 who make 2^64 attempts each, one would find one of a million names.
pub const TAG_BYTES: usize = 12;
/// What a cookie's value has: two tags in base64.
const TEXT_BYTES: usize = 32;

pub type Tag = [u8; TAG_BYTES];

/// What a cookie says, or is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// So that a client stays with its version when its instance is gone.
    pub version: Tag,
    pub instance: Tag,
}

impl Session {
    /// `None`: we never wrote such a value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != TEXT_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (version, instance) = bytes.split_first_chunk::<TAG_BYTES>()?;
        Some(Self { version: *version, instance: instance.try_into().ok()? })
    }
}

/// As cookies have it.
impl fmt::Display for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode([self.version, self.instance].concat()))
    }
}

/// Keys to name endpoints by. The first one names, all of them are known, so that a fleet can change its key without
/// moving a client.
pub struct StickyKeys {
    keys: Vec<Key>,
    is_shared: bool,
}

impl fmt::Debug for StickyKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StickyKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Without keys nobody is named.
impl Default for StickyKeys {
    fn default() -> Self {
        Self::new(&[], false)
    }
}

impl StickyKeys {
    /// The most that a file may have: the one in use, and those whose cookies have not expired.
    pub const MOST: usize = 4;

    /// `is_shared`: other processes have them, too, and the next one will.
    pub fn new(keys: &[[u8; 32]], is_shared: bool) -> Self {
        Self { keys: keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect(), is_shared }
    }

    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// By every key, the one in use first.
    pub fn versions(&self, app: &AppId, version: &VersionId) -> Vec<Tag> {
        self.tags(&["version", app.as_str(), version.as_str()])
    }

    /// As [`Self::versions`].
    pub fn instances(&self, app: &AppId, key: &InstanceKey) -> Vec<Tag> {
        self.tags(&["instance", app.as_str(), key.version.as_str(), key.instance.as_str()])
    }

    fn tags(&self, parts: &[&str]) -> Vec<Tag> {
        // 0 separates: no name has it.
        let said: Vec<u8> = parts.iter().flat_map(|part| part.bytes().chain([0])).collect();
        let tag = |key: &Key| {
            let whole = sign(key, &said);
            std::array::from_fn(|at| whole.as_ref()[at])
        };
        self.keys.iter().map(tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use topology::InstanceId;

    use super::*;

    fn tags(keys: &StickyKeys, app: &str, version: &str, instance: &str) -> Session {
        let app = AppId::parse(app).unwrap();
        let version = VersionId::parse(version).unwrap();
        let key = InstanceKey { version: version.clone(), instance: InstanceId::parse(instance).unwrap() };
        Session { version: keys.versions(&app, &version)[0], instance: keys.instances(&app, &key)[0] }
    }

    /// Another one would move every client at an upgrade.
    #[test]
    fn names_never_change() {
        let keys = StickyKeys::new(&[[7; 32]], true);
        let text = tags(&keys, "shop", "v1", "c1").to_string();
        assert_eq!(text, KNOWN);
        assert_eq!(Session::parse(text.as_bytes()), Some(tags(&keys, "shop", "v1", "c1")));
    }

    /// By another implementation of HMAC.
    const KNOWN: &str = "-MVl8RVyjw6gr18hxWks2LBxC14maixt";

    #[test]
    fn nothing_is_named_as_anything_else() {
        let keys = StickyKeys::new(&[[7; 32]], true);
        let one = tags(&keys, "shop", "v1", "c1");
        for (app, version, instance) in [("shop2", "v1", "c1"), ("shop", "v2", "c1"), ("shop", "v1", "c2")] {
            assert_ne!(tags(&keys, app, version, instance).instance, one.instance);
        }
        assert_ne!(tags(&keys, "other", "v1", "c1").version, one.version);
        assert_ne!(tags(&StickyKeys::new(&[[8; 32]], true), "shop", "v1", "c1").instance, one.instance);
        // Neither is a version an instance.
        assert_ne!(one.version, one.instance);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_read_or_is_not(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(session) = Session::parse(&value) {
                prop_assert_eq!(session.to_string().into_bytes(), value);
            }
        }

        #[test]
        fn what_is_written_is_read(version: [u8; TAG_BYTES], instance: [u8; TAG_BYTES]) {
            let session = Session { version, instance };
            prop_assert_eq!(Session::parse(session.to_string().as_bytes()), Some(session));
        }
    }
}
