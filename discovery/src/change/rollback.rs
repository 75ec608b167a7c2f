//! Going back: the former values of everything that changed since, written as a new change.

use std::collections::BTreeMap;

use topology::AppId;

use super::editor::{Basis, CATCH_UP, Editor, Outcome};
use super::history::{self, Record};
use super::{ChangeError, Edit, EntryKey, Occasion, Precondition, Stored, Wanted};

/// How often it is begun anew because something was changed meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// Whose entries are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those of these apps and of nobody else.
    Apps(Vec<AppId>),
}

impl Scope {
    pub fn has(&self, entry: &EntryKey) -> bool {
        match self {
            Self::All => true,
            Self::Apps(apps) => entry.app().is_some_and(|app| apps.contains(app)),
        }
    }
}

/// What one entry was at the revision that is gone back to, and what the newest record says that it became.
struct Former {
    then: Option<Stored>,
    newest: Option<Stored>,
}

impl Editor {
    /// What is kept of the history, oldest first. A record that cannot be read is left out; its revision is missing.
    pub fn records(&self) -> Vec<Record> {
        let entries = self.state().entries;
        let records = history::kept(&entries);
        records
            .filter_map(|(revision, _, entry)| Record::decode(revision, &entry.value, self.keys()).ok())
            .collect()
    }

    /// `None`: it is not kept.
    ///
    /// # Errors
    /// [`ChangeError::History`]: it cannot be read.
    pub async fn record(&self, revision: u64) -> Result<Option<Record>, ChangeError> {
        let Some(entry) = self.registry.read(&history::key(revision)).await? else { return Ok(None) };
        Record::decode(revision, &entry.value, self.keys()).map(Some).map_err(ChangeError::History)
    }

    /// Writes the values that the entries in `scope` had at revision `to`, where they have been changed since.
    ///
    /// # Errors
    /// [`ChangeError::Forgotten`] where a record since then is missing; otherwise as [`Editor::change`].
    pub async fn roll_back(
        &self,
        to: u64,
        scope: &Scope,
        occasion: &Occasion,
        dry_run: bool,
    ) -> Result<Outcome, ChangeError> {
        let mut states = self.registry.watch();
        for _ in 0..MAX_ATTEMPTS {
            states.mark_unchanged();
            let (head, formers) = self.formers(to, scope)?;
            let warnings = self.lost(&formers);
            let edit = |(entry, former): (EntryKey, Former)| {
                let wanted = former.then.map_or(Wanted::Absent, Wanted::Former);
                Edit { entry, wanted, precondition: Precondition::Any }
            };
            let mut judged = self.judge(formers.into_iter().map(edit).collect())?;
            judged.warnings.splice(..0, warnings);
            let basis = Basis { head: Some(head), rolled_back_to: Some(to) };
            match self.carry_out(judged, occasion, basis, dry_run).await {
                // What was changed since is to go back too.
                Err(ChangeError::Moved) => drop(tokio::time::timeout(CATCH_UP, states.changed()).await),
                outcome => return outcome,
            }
        }
        Err(ChangeError::Busy)
    }

    /// The newest revision, and what has changed since `to`.
    fn formers(&self, to: u64, scope: &Scope) -> Result<(u64, BTreeMap<EntryKey, Former>), ChangeError> {
        let entries = self.state().entries;
        let head = history::kept(&entries).next_back().map_or(0, |(revision, ..)| revision);
        let oldest = history::kept(&entries).next().map_or(0, |(revision, ..)| revision);
        // What a revision left is known as long as every later record is kept.
        if head == 0 || to > head || to < oldest - 1 {
            let kept = match head {
                0 => "nothing was changed yet".to_owned(),
                _ => format!("write one from {} to {head}", oldest - 1),
            };
            return Err(ChangeError::Forgotten { to, kept });
        }
        let mut formers: BTreeMap<EntryKey, Former> = BTreeMap::new();
        for revision in (to + 1..=head).rev() {
            let missing = || ChangeError::Forgotten { to, kept: format!("the record of {revision} is gone") };
            let entry = entries.get(&history::key(revision)).ok_or_else(missing)?;
            let record = Record::decode(revision, &entry.value, self.keys()).map_err(ChangeError::History)?;
            for change in record.changes.into_iter().filter(|change| scope.has(&change.entry)) {
                let newest = change.after;
                let former = formers.entry(change.entry).or_insert(Former { then: None, newest });
                former.then = change.before;
            }
        }
        Ok((head, formers))
    }

    fn lost(&self, formers: &BTreeMap<EntryKey, Former>) -> Vec<String> {
        let entries = self.state().entries;
        let is_lost = |(entry, former): &(&EntryKey, &Former)| {
            let now = entries.get(&entry.key()).map(|entry| Stored::of_bytes(entry.value.clone()));
            now != former.newest
        };
        let lost = formers.iter().filter(is_lost);
        lost.map(|(entry, _)| format!("{entry}: was changed since without a record; that is lost too"))
            .collect()
    }
}
