//! Making a change: judge, read, compare, record, write.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;

use super::history::{self, Record};
use super::judge::{Judge, examine};
use super::{ChangeError, Changed, Edit, EntryKey, MAX_EDITS, Occasion, Precondition, Scope, Stored, Wanted};
use crate::document::Mistakes;
use crate::registry::{
    Entry, Expect, Key, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Registry, RegistryError, Step,
};
use crate::secrets::{Keys, unseal};

/// How often a change is made anew because somebody else was quicker. Ten gateways that write without a pause get through.
const MAX_ATTEMPTS: usize = 16;
/// How long it is waited until this process sees what it wrote; what is asked next should find it.
pub(super) const CATCH_UP: Duration = Duration::from_secs(2);
/// Records that others wrote and the watch has not told of yet.
const MAX_AHEAD: u64 = 64;

/// Changes one registry.
pub struct Editor {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) keys: Option<Arc<Keys>>,
    judge: Arc<dyn Judge>,
}

/// What a change came to, or would come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Of the history. `None`: nothing was written, since nothing differs or nothing was to be.
    pub revision: Option<u64>,
    /// The version that the entries written have now.
    pub version: Option<u64>,
    /// In the order of their keys.
    pub changes: Vec<Changed>,
    pub warnings: Vec<String>,
}

/// The registry's entries as they are, and the history's newest revision.
#[derive(Debug, Clone)]
pub struct State {
    pub entries: OrdMap<Key, Entry>,
    pub head: u64,
}

impl State {
    /// Those that the API knows, in order.
    pub fn known(&self) -> impl Iterator<Item = (EntryKey, &Entry)> {
        self.entries.iter().filter_map(|(key, entry)| Some((EntryKey::of_key(key)?, entry)))
    }

    /// Differs wherever an entry differs.
    pub fn tag(&self) -> String {
        let (mut count, mut newest) = (0_u64, 0);
        for (_, entry) in self.known() {
            (count, newest) = (count + 1, newest.max(entry.version));
        }
        format!("{}-{newest}-{count}", self.head)
    }
}

/// What a change was made from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Basis {
    /// The newest revision that it takes into account, where that matters.
    pub(super) head: Option<u64>,
    pub(super) rolled_back_to: Option<u64>,
}

/// A change whose values are known to be right.
pub(super) struct Judged {
    pub(super) targets: Vec<Target>,
    pub(super) warnings: Vec<String>,
}

pub(super) struct Target {
    entry: EntryKey,
    key: Key,
    wanted: Option<Stored>,
    precondition: Precondition,
}

impl Editor {
    /// Without `keys` nothing can be sealed, and sealed values cannot be judged.
    pub fn new(registry: Arc<dyn Registry>, keys: Option<Arc<Keys>>, judge: Arc<dyn Judge>) -> Self {
        Self { registry, keys, judge }
    }

    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_deref()
    }

    /// As this process sees it.
    pub fn state(&self) -> State {
        let entries = self.registry.watch().borrow().entries.clone();
        let head = history::kept(&entries).next_back().map_or(0, |(revision, ..)| revision);
        State { entries, head }
    }

    /// As the registry has it, with its version.
    ///
    /// # Errors
    /// [`ChangeError::Registry`].
    pub async fn read(&self, entry: &EntryKey) -> Result<Option<(Stored, u64)>, ChangeError> {
        let found = self.registry.read(&entry.key()).await?;
        Ok(found.map(|entry| (Stored::of_bytes(entry.value), entry.version)))
    }

    /// Makes the change, or with `dry_run` says what it would come to.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was written, but where a [`RegistryError`] leaves that open.
    pub async fn change(
        &self,
        edits: Vec<Edit>,
        occasion: &Occasion,
        dry_run: bool,
    ) -> Result<Outcome, ChangeError> {
        let judged = self.judge(edits)?;
        self.carry_out(judged, occasion, Basis::default(), dry_run).await
    }

    /// Makes the entries in `wanted` what they are to be. With `prune`, entries in its scope go that are of a kind that
    /// `wanted` names and are not in it. With `tag`, only where [`State::tag`] is still that.
    ///
    /// # Errors
    /// As [`Self::change`]; [`ChangeError::Stale`].
    pub async fn apply(
        &self,
        mut wanted: BTreeMap<EntryKey, Wanted>,
        prune: Option<&Scope>,
        tag: Option<&str>,
        occasion: &Occasion,
        dry_run: bool,
    ) -> Result<Outcome, ChangeError> {
        let state = self.state();
        if tag.is_some_and(|tag| tag != state.tag()) {
            return Err(ChangeError::Stale { current: state.tag() });
        }
        if let Some(scope) = prune {
            let kinds: HashSet<_> = wanted.keys().map(EntryKey::kind).collect();
            let beyond = state.known().map(|(entry, _)| entry);
            let beyond = beyond.filter(|entry| kinds.contains(&entry.kind()) && scope.has(entry));
            beyond.for_each(|entry| {
                wanted.entry(entry).or_insert(Wanted::Absent);
            });
        }
        let edit = |(entry, wanted)| Edit { entry, wanted, precondition: Precondition::Any };
        let judged = self.judge(wanted.into_iter().map(edit).collect())?;
        let basis = Basis { head: tag.map(|_| state.head), rolled_back_to: None };
        match self.carry_out(judged, occasion, basis, dry_run).await {
            Err(ChangeError::Moved) => Err(ChangeError::Stale { current: self.state().tag() }),
            outcome => outcome,
        }
    }

    /// # Errors
    /// [`ChangeError::Invalid`] with everything that is wrong with any of them.
    pub(super) fn judge(&self, edits: Vec<Edit>) -> Result<Judged, ChangeError> {
        if edits.len() > MAX_EDITS {
            return Err(ChangeError::TooMany(edits.len()));
        }
        let (mut mistakes, mut warnings) = (Mistakes::default(), Vec::new());
        let mut targets = Vec::with_capacity(edits.len());
        let mut seen = HashSet::new();
        for Edit { entry, wanted, precondition } in edits {
            let blame = |message: String| Mistakes::one(&entry.to_string().into(), None, message);
            if !seen.insert(entry.clone()) {
                mistakes.append(blame("stands twice in one change".to_owned()));
            }
            let wanted = match self.stored(&entry, wanted) {
                Ok(wanted) => wanted,
                Err(message) => {
                    mistakes.append(blame(message));
                    continue;
                }
            };
            if let Some(value) = &wanted {
                let found = (&mut mistakes, &mut warnings);
                examine(&entry, value, self.keys.as_deref(), &*self.judge, found);
            }
            targets.push(Target { key: entry.key(), entry, wanted, precondition });
        }
        mistakes.or(()).map_err(ChangeError::Invalid)?;
        targets.sort_by(|one, other| one.entry.cmp(&other.entry));
        Ok(Judged { targets, warnings })
    }

    /// As it would stand in the registry.
    fn stored(&self, entry: &EntryKey, wanted: Wanted) -> Result<Option<Stored>, String> {
        let (value, seals) = match wanted {
            Wanted::Absent => return Ok(None),
            Wanted::Former(value) => return Ok(Some(value)),
            Wanted::Json(value) => (value, false),
            Wanted::Seal(value) => (value, true),
        };
        // A private key is never written in clear text.
        let seals = seals || matches!(entry, EntryKey::Certificate(_));
        let stored = Stored::of_json(&value);
        if stored.bytes().len() > MAX_VALUE_BYTES {
            return Err(format!("has {} bytes; the limit is {MAX_VALUE_BYTES}", stored.bytes().len()));
        }
        match entry {
            EntryKey::Certificate(_) if !value.is_string() => {
                return Err("must be a text: chain and key in PEM, or the text of a sealed value".to_owned());
            }
            EntryKey::Certificate(_) => {}
            _ if !value.is_object() && !stored.is_sealed() => {
                return Err("must be a JSON object, or the text of a sealed value".to_owned());
            }
            _ => {}
        }
        if stored.is_sealed() || !seals {
            return Ok(Some(stored));
        }
        let keys = self.keys.as_deref();
        let keys =
            keys.ok_or("cannot be sealed: this gateway has no keys; name their file with registry.key_file")?;
        let sealed = keys.seal(&entry.key(), stored.bytes()).map_err(|error| error.to_string())?;
        Ok(Some(Stored::of_bytes(sealed.into())))
    }

    pub(super) async fn carry_out(
        &self,
        judged: Judged,
        occasion: &Occasion,
        basis: Basis,
        dry_run: bool,
    ) -> Result<Outcome, ChangeError> {
        let Judged { targets, warnings } = judged;
        for _ in 0..MAX_ATTEMPTS {
            let found = self.look(&targets).await?;
            let (changes, steps) = differing(&targets, &found, self.keys.as_deref());
            if changes.is_empty() || dry_run {
                return Ok(Outcome { revision: None, version: None, changes, warnings });
            }
            let revision = self.next_revision().await?;
            if basis.head.is_some_and(|head| revision != head + 1) {
                return Err(ChangeError::Moved);
            }
            let record = Record::new(revision, occasion, basis.rolled_back_to, changes);
            match self.write(&record, steps).await {
                Ok(version) => {
                    self.catch_up(version).await;
                    let (revision, version) = (Some(revision), Some(version));
                    return Ok(Outcome { revision, version, changes: record.changes, warnings });
                }
                // Whether what was required still holds is looked at again.
                Err(ChangeError::Registry(RegistryError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ChangeError::Busy)
    }

    /// The entries as they are, each as its precondition wants it.
    async fn look(&self, targets: &[Target]) -> Result<Vec<Option<Entry>>, ChangeError> {
        let found = targets.iter().map(|target| self.registry.read(&target.key));
        let found = futures::future::try_join_all(found).await?;
        for (target, entry) in targets.iter().zip(&found) {
            let version = entry.as_ref().map(|entry| entry.version);
            let holds = match target.precondition {
                Precondition::Any => true,
                Precondition::Absent => version.is_none(),
                Precondition::Present => version.is_some(),
                Precondition::Version(wanted) => version == Some(wanted),
            };
            if !holds {
                return Err(ChangeError::Conflict { entry: target.entry.clone(), version });
            }
        }
        Ok(found)
    }

    async fn next_revision(&self) -> Result<u64, ChangeError> {
        let seen = self.state().head;
        // The watch may not have told of the newest yet.
        for revision in seen + 1..=seen + MAX_AHEAD {
            if self.registry.read(&history::key(revision)).await?.is_none() {
                return Ok(revision);
            }
        }
        Err(ChangeError::Busy)
    }

    async fn write(&self, record: &Record, mut steps: Vec<Step>) -> Result<u64, ChangeError> {
        let value = record.encode(self.keys.as_deref()).map_err(ChangeError::History)?;
        let written: usize =
            steps.iter().filter_map(|step| step.value.as_ref()).map(|value| value.len()).sum();
        let (bytes, keys) = (written + value.len(), (steps.len() + 1 + history::MAX_REMOVED) * 512);
        let most = MAX_TRANSACTION_BYTES - keys;
        if bytes > most || value.len() > MAX_VALUE_BYTES {
            return Err(ChangeError::TooLarge { bytes, most: most.min(MAX_VALUE_BYTES) });
        }
        let entries = self.state().entries;
        let going = history::overdue(&entries, value.len()).into_iter();
        // Whoever removed it already has done no harm.
        steps.extend(going.map(|(key, _)| Step { key, value: None, expect: Expect::Any }));
        steps.push(Step { key: history::key(record.revision), value: Some(value), expect: Expect::Absent });
        Ok(self.registry.transact(&steps).await?)
    }

    async fn catch_up(&self, version: u64) {
        let mut states = self.registry.watch();
        let seen = states.wait_for(|state| state.revision >= version);
        let _ = tokio::time::timeout(CATCH_UP, seen).await;
    }
}

/// Sealing a value again makes another text of it.
fn seal_the_same(before: &Stored, wanted: &Stored, key: &Key, keys: Option<&Keys>) -> bool {
    let open = |value: &Stored| match value.is_sealed() {
        true => unseal(keys, key, value.bytes()).ok().map(|plain| plain.into_owned()),
        false => None,
    };
    open(before).is_some_and(|plain| open(wanted).is_some_and(|other| other == plain))
}

/// What differs, and the steps that make it so.
fn differing(targets: &[Target], found: &[Option<Entry>], keys: Option<&Keys>) -> (Vec<Changed>, Vec<Step>) {
    let (mut changes, mut steps) = (Vec::new(), Vec::new());
    for (target, entry) in targets.iter().zip(found) {
        let before = entry.as_ref().map(|entry| Stored::of_bytes(entry.value.clone()));
        let is_same = match (&before, &target.wanted) {
            (None, None) => true,
            (Some(before), Some(wanted)) => {
                before.means(wanted) || seal_the_same(before, wanted, &target.key, keys)
            }
            _ => false,
        };
        if is_same {
            continue;
        }
        steps.push(Step {
            key: target.key.clone(),
            value: target.wanted.as_ref().map(|value| value.bytes().clone()),
            expect: entry.as_ref().map_or(Expect::Absent, |entry| Expect::Version(entry.version)),
        });
        changes.push(Changed { entry: target.entry.clone(), before, after: target.wanted.clone() });
    }
    (changes, steps)
}
