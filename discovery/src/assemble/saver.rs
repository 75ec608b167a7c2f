//! When the last good entries are written to disk: soon after a change, not with every one, and in nobody's way.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::registry::{Entry, Key, State};
use crate::saved::{Saved, SavedFile, is_needed};

/// What a crash loses of the last changes, and how often a registry that never rests is written at the most.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is to be written.
#[derive(Debug, Clone, Default)]
struct Good {
    revision: u64,
    entries: OrdMap<Key, Entry>,
    /// Keys of `entries` whose values are rejected, with the last good ones, where there were any.
    instead: OrdMap<Key, Option<Entry>>,
}

#[derive(Debug)]
pub(super) struct Saver {
    good: watch::Sender<Good>,
    urgent: Arc<Notify>,
    finishing: CancellationToken,
    task: JoinHandle<()>,
}

/// What a former run has saved.
pub(super) fn load(file: &SavedFile) -> Option<Saved> {
    let path = file.path.display();
    match file.load() {
        Ok(Some(saved)) => {
            let entries = saved.entries.len();
            tracing::info!(%path, revision = saved.revision, entries, "the registry's last good entries were read");
            Some(saved)
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%path, %error, "the registry's last good entries cannot be used; they will be written anew");
            None
        }
    }
}

impl Saver {
    /// `kept` is in the file already.
    pub(super) fn start(file: SavedFile, kept: Option<Saved>) -> Self {
        let kept = kept.map(|Saved { revision, entries }| Good { revision, entries, ..Good::default() });
        let (good, news) = watch::channel(kept.unwrap_or_default());
        let finishing = CancellationToken::new();
        let urgent = Arc::new(Notify::new());
        let task = tokio::spawn(run(file, news, urgent.clone(), finishing.clone()));
        Self { good, urgent, finishing, task }
    }

    /// Has `state` written before long, if it says anything that a start needs. Of a key that `is_rejected` the last
    /// good value is kept: the next process could not know it. `keeps`: also of one that was made anew.
    pub(super) fn remember(&self, state: &State, keeps: bool, is_rejected: impl Fn(&Key) -> bool) {
        self.good.send_if_modified(|good| {
            let before = std::mem::replace(&mut good.entries, state.entries.clone());
            // A lower one is news: the next process would doubt whoever has it.
            let mut differs = state.revision < good.revision;
            good.revision = state.revision;
            for change in before.diff(&state.entries) {
                differs |= good.follow(&change, keeps, &is_rejected);
            }
            differs
        });
    }

    /// Does not wait with what was remembered last.
    pub(super) fn hurry(&self) {
        self.urgent.notify_one();
    }

    /// Writes what is not written yet.
    pub(super) async fn finish(self) {
        self.finishing.cancel();
        drop(self.good);
        // It ends by itself; had it failed, there would be nothing to do about it.
        let _ = self.task.await;
    }
}

impl Good {
    /// Whether it is news for a start.
    fn follow(
        &mut self,
        change: &DiffItem<'_, '_, Key, Entry>,
        keeps: bool,
        is_rejected: &impl Fn(&Key) -> bool,
    ) -> bool {
        let (key, old, new) = match *change {
            DiffItem::Add(key, new) => (key, None, Some(new)),
            DiffItem::Update { old: (_, old), new: (key, new) } => (key, Some(old), Some(new)),
            DiffItem::Remove(key, old) => (key, Some(old), None),
        };
        if !is_needed(key) {
            return false;
        }
        let former = self.instead.remove(key).unwrap_or_else(|| old.cloned());
        if let Some(new) = new.filter(|_| is_rejected(key)) {
            // Made anew since: what was there before is nobody's last good value.
            let last_good = former.filter(|former| keeps || former.created == new.created);
            let last_good = last_good.map(|former| Entry { value: former.value, ..new.clone() });
            self.instead.insert(key.clone(), last_good);
        }
        true
    }

    fn into_entries(self) -> OrdMap<Key, Entry> {
        let mut entries = self.entries;
        for (key, entry) in self.instead {
            match entry {
                Some(entry) => entries.insert(key, entry),
                None => entries.remove(&key),
            };
        }
        entries
    }
}

async fn run(
    file: SavedFile,
    mut news: watch::Receiver<Good>,
    urgent: Arc<Notify>,
    finishing: CancellationToken,
) {
    // The last news come before the end.
    while news.changed().await.is_ok() {
        let good = news.borrow_and_update().clone();
        if !store(&file, good).await && !finishing.is_cancelled() {
            news.mark_changed();
        }
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = urgent.notified() => {}
            }
        };
        let _ = finishing.run_until_cancelled(pause).await;
    }
}

/// Whether the disk took it; if not, the next interval tries again.
async fn store(file: &SavedFile, good: Good) -> bool {
    let to = file.clone();
    let stored = tokio::task::spawn_blocking(move || to.store(good.revision, &good.into_entries())).await;
    let Ok(Err(error)) = stored else { return true };
    let path = file.path.display();
    tracing::warn!(%path, %error, "the registry's last good entries cannot be saved; a start without it would lack them");
    false
}
