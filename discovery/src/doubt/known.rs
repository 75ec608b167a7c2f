//! What was known of a registry, and whether what it says now can have come of that.

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::EMPTIED;
use crate::registry::{Entry, Key};
use crate::saved::is_needed;

/// All that a registry had at some moment.
pub(super) struct Known<'a> {
    /// Up to which every change is in `entries`.
    pub(super) revision: u64,
    pub(super) entries: &'a OrdMap<Key, Entry>,
    /// Whether keys that are not in `entries` were not there. A former run saves only what a start needs.
    pub(super) is_whole: bool,
}

impl Known<'_> {
    /// Whether what is there `now` proves another past. Versions are revisions of the whole registry, so what is new has later
    /// ones than all that was known, also where a key was made anew: a registry that was restored from a backup is found
    /// out whatever its revision is.
    pub(super) fn is_contradicted_by(&self, now: &OrdMap<Key, Entry>) -> bool {
        self.entries.diff(now).any(|change| match change {
            DiffItem::Add(_, new) => self.is_whole && new.version <= self.revision,
            DiffItem::Update { old: (_, old), new: (_, new) } => {
                let is_other = (new.version, new.created) != (old.version, old.created);
                let is_older = new.version < old.version || new.created < old.created;
                is_older || (is_other && new.version <= self.revision)
            }
            DiffItem::Remove(..) => false,
        })
    }

    /// Whether nothing is left of what was known, and some of it was made anew. So looks an ensemble that was emptied to who
    /// comes when others have begun to fill it again, with no key among them that tells its age.
    pub(super) fn is_made_anew_in(&self, now: &OrdMap<Key, Entry>) -> bool {
        let (mut gone, mut anew) = (0, 0);
        for change in self.entries.diff(now) {
            match change {
                DiffItem::Remove(key, _) => gone += usize::from(is_needed(key)),
                DiffItem::Update { old: (key, old), new: (_, new) } if old.created != new.created => {
                    gone += usize::from(is_needed(key));
                    // Whoever registers for a session does so again and again.
                    anew += usize::from(is_needed(key) && !old.ephemeral);
                }
                DiffItem::Add(..) | DiffItem::Update { .. } => {}
            }
        }
        if anew == 0 {
            return false;
        }
        // One more than have gone is enough to know that one is left: this costs what the change does.
        let known: Vec<_> = self.entries.iter().filter(|(key, _)| is_needed(key)).take(gone + 1).collect();
        known.len() == gone && known.iter().filter(|(_, entry)| !entry.ephemeral).count() >= EMPTIED
    }
}
