//! When the last good entries are written to disk: soon after a change, not with every one, and in nobody's way.

use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::registry::{Entry, Key, State};
use crate::saved::{Saved, SavedFile, is_needed};

/// What a crash loses of the last changes, and how often a registry that never rests is written at the most.
const INTERVAL: Duration = Duration::from_secs(10);

type Entries = (u64, OrdMap<Key, Entry>);

#[derive(Debug)]
pub(super) struct Saver {
    good: watch::Sender<Entries>,
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
    pub(super) fn start(file: SavedFile, kept: Entries) -> Self {
        let (good, news) = watch::channel(kept);
        let finishing = CancellationToken::new();
        let task = tokio::spawn(run(file, news, finishing.clone()));
        Self { good, finishing, task }
    }

    /// Has `state` written before long, if it says anything that a start needs.
    pub(super) fn remember(&self, state: &State) {
        let is_news = |change: DiffItem<'_, '_, Key, Entry>| match change {
            DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _) => {
                is_needed(key)
            }
        };
        self.good.send_if_modified(|(revision, entries)| {
            let differs = entries.diff(&state.entries).any(is_news);
            (*revision, *entries) = (state.revision, state.entries.clone());
            differs
        });
    }

    /// Writes what is not written yet.
    pub(super) async fn finish(self) {
        self.finishing.cancel();
        drop(self.good);
        // It ends by itself; had it failed, there would be nothing to do about it.
        let _ = self.task.await;
    }
}

async fn run(file: SavedFile, mut news: watch::Receiver<Entries>, finishing: CancellationToken) {
    // The last news come before the end.
    while news.changed().await.is_ok() {
        let entries = news.borrow_and_update().clone();
        if !store(&file, entries).await && !finishing.is_cancelled() {
            news.mark_changed();
        }
        let _ = finishing.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
    }
}

/// Whether the disk took it; if not, the next interval tries again.
async fn store(file: &SavedFile, (revision, entries): Entries) -> bool {
    let to = file.clone();
    let stored = tokio::task::spawn_blocking(move || to.store(revision, &entries)).await;
    let Ok(Err(error)) = stored else { return true };
    let path = file.path.display();
    tracing::warn!(%path, %error, "the registry's last good entries cannot be saved; a start without it would lack them");
    false
}
