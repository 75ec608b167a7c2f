//! A registry: a small tree of keys and values that many processes share.
//!
//! The trait offers what every implementation can promise: the whole state as it is now (a watcher may
//! miss states in between, never the last one), writes against an expected version, and keys that go
//! away with the session that made them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::watch;

/// ZooKeeper refuses a node above 1 MiB (`jute.maxbuffer`); a value of ours never comes near it.
pub const MAX_VALUE_BYTES: usize = 512 << 10;
const MAX_KEY_BYTES: usize = 1024;
/// Keys of one [`Registry::transact`]: etcd's `--max-txn-ops` as it comes.
pub const MAX_STEPS: usize = 128;
/// Keys and values of one [`Registry::transact`] together. ZooKeeper takes 1 MiB in one request, with paths, lists of
/// permissions and lengths around each.
pub const MAX_TRANSACTION_BYTES: usize = 896 << 10;

/// A path below the registry's prefix, such as `service/address/shop/v1/c1`: non-empty segments
/// between slashes, no leading or trailing one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// # Errors
    /// [`RegistryError::BadKey`] for an empty, over-long or relative path, or one with control characters
    /// or others that ZooKeeper's `PathUtils.validatePath` refuses.
    pub fn parse(path: &str) -> Result<Self, RegistryError> {
        let unprintable =
            |c: char| c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
        let well_formed = path.len() <= MAX_KEY_BYTES
            && !path.chars().any(unprintable)
            && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if well_formed {
            Ok(Self(Arc::from(path)))
        } else {
            Err(RegistryError::BadKey(path.chars().take(256).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

/// A value and what the registry knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Empty only for a key that exists and whose value cannot be used: an ephemeral node that its
    /// maker left empty, a value above [`MAX_VALUE_BYTES`], a node that we may not read. Readers treat
    /// that as they treat any other bad value.
    pub value: Bytes,
    /// Changes with every write of this key; what [`Expect::Version`] compares.
    pub version: u64,
    /// The registry's revision when the key was created.
    pub created: u64,
    /// Goes away with the session that made it.
    pub ephemeral: bool,
}

/// All keys with values at one moment. Cloning shares everything.
#[derive(Debug, Clone)]
pub struct State {
    pub link: Link,
    /// Grows with every change seen: ZooKeeper's zxid, etcd's revision, or the embedded registry's own count. 0 before the
    /// first complete read; falls only when etcd went back in time.
    pub revision: u64,
    /// Whether entries may have changes beyond `revision` in them already. It follows then, perhaps without another change.
    pub ahead: bool,
    /// Complete, but as old as the link's loss while the link is down.
    pub entries: OrdMap<Key, Entry>,
}

/// Whether the registry answers.
#[derive(Debug, Clone)]
pub enum Link {
    /// Not yet, since start; `why` the last attempt failed, once one has.
    Connecting {
        why: Option<Arc<str>>,
    },
    Connected {
        since: Instant,
    },
    /// `entries` stand as they were; reconnecting goes on.
    Lost {
        since: Instant,
        why: Arc<str>,
    },
}

impl Link {
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// What a write requires of the key as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    Absent,
    Version(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    Persistent,
    /// Until the session of the handle that writes it ends.
    Session,
}

/// What becomes of one key in a [`Registry::transact`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub key: Key,
    /// Persistent. `None`: the key goes; that one is absent already is fine, where `expect` admits it.
    pub value: Option<Bytes>,
    pub expect: Expect,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{0:?} is no registry key: use segments between single slashes, without a leading one")]
    BadKey(String),
    #[error("a value of {given} bytes is above the limit of {MAX_VALUE_BYTES}")]
    TooLarge { given: usize },
    /// ZooKeeper's parent nodes are nodes without a value, so a key without one would be no key.
    #[error(
        "a change of {keys} keys and {bytes} bytes is above the limit of {MAX_STEPS} keys and {MAX_TRANSACTION_BYTES} bytes"
    )]
    TooMuch { keys: usize, bytes: usize },
    #[error("{key} stands twice in one change")]
    Twice { key: Key },
    #[error("{key} needs a value")]
    Empty { key: Key },
    #[error("the registry in {} is open in another process", .dir.display())]
    InUse { dir: PathBuf },
    #[error("{key} is not as expected ({expected:?})")]
    Conflict { key: Key, expected: Expect },
    #[error("cannot {doing}{}", if *.may_have_happened { "; it may have happened all the same" } else { "" })]
    Failed {
        doing: String,
        /// The request was sent and no answer came: the write may be in force.
        may_have_happened: bool,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What every implementation refuses before it asks the registry.
pub(crate) fn check_value(key: &Key, value: &[u8]) -> Result<(), RegistryError> {
    if value.is_empty() {
        return Err(RegistryError::Empty { key: key.clone() });
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(RegistryError::TooLarge { given: value.len() });
    }
    Ok(())
}

/// As [`check_value`], for all of `steps`.
pub(crate) fn check_steps(steps: &[Step]) -> Result<(), RegistryError> {
    let size = |step: &Step| step.key.as_str().len() + step.value.as_ref().map_or(0, Bytes::len);
    let bytes = steps.iter().map(size).sum();
    if steps.len() > MAX_STEPS || bytes > MAX_TRANSACTION_BYTES {
        return Err(RegistryError::TooMuch { keys: steps.len(), bytes });
    }
    let mut seen = std::collections::HashSet::with_capacity(steps.len());
    for step in steps {
        if let Some(value) = &step.value {
            check_value(&step.key, value)?;
        }
        if !seen.insert(&step.key) {
            return Err(RegistryError::Twice { key: step.key.clone() });
        }
    }
    Ok(())
}

impl Expect {
    /// Whether a key that is `present` at that version, or absent, is as expected.
    pub(crate) fn admits(self, present: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => present.is_none(),
            Self::Version(version) => present == Some(version),
        }
    }
}

/// One handle is one session. Dropping the last handle ends it, and its [`Lifetime::Session`] keys go.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The state as last known, updated without being asked. Never waits for the registry.
    fn watch(&self) -> watch::Receiver<State>;

    /// Reads through to the registry: sees every write that was acknowledged before the call.
    async fn read(&self, key: &Key) -> Result<Option<Entry>, RegistryError>;

    /// Creates or replaces `key`, with the keys above it where the registry needs them, and returns its
    /// new version. Durable when it returns.
    async fn write(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, RegistryError>;

    /// Removes `key`. Removing what is absent succeeds under [`Expect::Any`].
    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError>;

    /// All of `steps`, or none of them where one key is not as expected: one revision, durable when it returns. At most
    /// [`MAX_STEPS`] distinct keys and [`MAX_TRANSACTION_BYTES`]. A ZooKeeper's watchers may see some of them a moment
    /// before the others. Returns the new version of each key that was written: they share it.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] names the first key that is not as expected. As it comes: [`RegistryError::Failed`], for
    /// registries that change one key at a time.
    async fn transact(&self, steps: &[Step]) -> Result<u64, RegistryError> {
        Err(RegistryError::Failed {
            doing: format!("change {} keys at once", steps.len()),
            may_have_happened: false,
            source: "this registry changes one key at a time".into(),
        })
    }
}
