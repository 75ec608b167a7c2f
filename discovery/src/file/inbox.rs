//! What the watching thread has to look at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Above it, comparing every file is cheaper than naming those that changed.
const MAX_NAMED: usize = 4096;

/// Work found since the thread last looked. Bounded, and every notice costs the same however often it
/// is repeated.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Files that were saved or moved in.
    pub saved: BTreeSet<PathBuf>,
    /// Files that went away.
    pub gone: BTreeSet<PathBuf>,
    /// Compare every file with what is known of it.
    pub rescan: bool,
    /// Read every file, even those that look unchanged.
    pub reread: bool,
    /// A folder was replaced: watches may hold on to the old one.
    pub rewatch: bool,
    pub stop: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        let named = self.saved.len() + self.gone.len();
        named == 0 && !(self.rescan || self.reread || self.rewatch || self.stop)
    }
}

/// Hands work from the kernel's notices and from callers to the watching thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    work: Mutex<Work>,
    filled: Condvar,
}

impl Inbox {
    pub(super) fn saved(&self, path: PathBuf) {
        self.add(|work| {
            work.gone.remove(&path);
            work.saved.insert(path);
        });
    }

    pub(super) fn gone(&self, path: PathBuf) {
        self.add(|work| {
            work.saved.remove(&path);
            work.gone.insert(path);
        });
    }

    pub(super) fn rescan(&self) {
        self.add(|work| work.rescan = true);
    }

    pub(super) fn reread(&self) {
        self.add(|work| (work.rescan, work.reread, work.rewatch) = (true, true, true));
    }

    pub(super) fn rewatch(&self) {
        self.add(|work| (work.rescan, work.rewatch) = (true, true));
    }

    pub(super) fn stop(&self) {
        self.add(|work| work.stop = true);
    }

    fn add(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut work);
        if work.saved.len() + work.gone.len() > MAX_NAMED {
            work.saved.clear();
            work.gone.clear();
            work.rescan = true;
        }
        self.filled.notify_one();
    }

    /// Waits until there is work, at most for `timeout`, and takes all of it.
    pub(super) fn wait(&self, timeout: Duration) -> Work {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.filled.wait_timeout_while(work, timeout, |work| work.is_empty());
        let (mut work, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *work)
    }
}
