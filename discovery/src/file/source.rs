//! The watching thread: notices and timers in, states out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::catalogue::Catalogue;
use super::inbox::{Inbox, Work};
use super::notices::Notices;
use super::pattern::{Expansion, is_absence};
use super::reading::{self, Stamp};
use super::{FilePattern, FileState};

/// Heals whatever notices miss: a replaced grandparent, a network file system. Comparing 10,000 files
/// takes some 20 ms, so once a minute is nothing.
const RESCAN_INTERVAL: Duration = Duration::from_secs(60);

/// Where the kernel grants no watch (a limit of the user or the host), looking is all there is.
const UNWATCHED_RESCAN_INTERVAL: Duration = Duration::from_secs(5);

/// Many editors save by moving the old file away before they write the new one, and a folder is
/// replaced in two renames. An app that came and went with that would answer 404 in between.
const REMOVAL_GRACE: Duration = Duration::from_millis(200);

pub(super) struct Source {
    patterns: Arc<[FilePattern]>,
    inbox: Arc<Inbox>,
    publish: watch::Sender<FileState>,
    catalogue: Catalogue,
    /// Files that went away, and when that is believed.
    leaving: BTreeMap<PathBuf, Instant>,
}

impl Source {
    pub(super) fn new(
        patterns: Vec<FilePattern>,
        inbox: Arc<Inbox>,
        publish: watch::Sender<FileState>,
    ) -> Self {
        let catalogue = Catalogue::default();
        Self { patterns: patterns.into(), inbox, publish, catalogue, leaving: BTreeMap::new() }
    }

    /// Publishes the first state in any case, then every change, until the inbox says stop.
    pub(super) fn run(mut self) {
        let mut notices = Notices::start(Arc::clone(&self.patterns), Arc::clone(&self.inbox));
        let mut rescanned = Instant::now();
        self.rescan(&mut notices, false);
        self.publish.send_replace(self.catalogue.take_changed().unwrap_or_default());
        loop {
            let interval = if notices.are_complete() { RESCAN_INTERVAL } else { UNWATCHED_RESCAN_INTERVAL };
            let due = rescanned + interval;
            let next = self.leaving.values().copied().min().map_or(due, |leaves| leaves.min(due));
            let work = self.inbox.wait(next.saturating_duration_since(Instant::now()));
            if work.stop {
                return;
            }
            if work.rewatch {
                notices.forget();
            }
            if work.rescan || Instant::now() >= due {
                rescanned = Instant::now();
                self.rescan(&mut notices, work.reread);
            }
            self.follow(work);
            self.let_go(Instant::now());
            if let Some(state) = self.catalogue.take_changed() {
                self.publish.send_replace(state);
            }
        }
    }

    /// Watches first and reads then, so that nothing changes unseen between the two.
    fn rescan(&mut self, notices: &mut Notices, reread: bool) {
        let mut expansion = self.expand();
        if notices.cover(&expansion.folders) {
            expansion = self.expand();
        }
        for path in &expansion.files {
            self.leaving.remove(path);
            let known = path.to_str().and_then(|path| self.catalogue.stamp(path));
            if reread || known.is_none() || known != Stamp::at(path) {
                self.look(path);
            }
        }
        for (folder, error) in &expansion.unread {
            tracing::warn!(folder = %folder.display(), %error, "cannot read a folder of app files");
        }
        if expansion.unread.is_empty() {
            self.doubt_missing(&expansion.files);
        }
    }

    fn expand(&self) -> Expansion {
        let mut expansion = Expansion::default();
        self.patterns.iter().for_each(|pattern| pattern.expand(&mut expansion));
        expansion
    }

    fn doubt_missing(&mut self, present: &BTreeSet<PathBuf>) {
        let missing = self.catalogue.paths().map(|path| Path::new(&**path));
        let missing: Vec<_> = missing.filter(|path| !present.contains(*path)).map(Path::to_owned).collect();
        missing.into_iter().for_each(|path| self.doubt(path));
    }

    fn doubt(&mut self, path: PathBuf) {
        self.leaving.entry(path).or_insert_with(|| Instant::now() + REMOVAL_GRACE);
    }

    fn follow(&mut self, work: Work) {
        for path in work.saved {
            self.leaving.remove(&path);
            self.look(&path);
        }
        for path in work.gone {
            if path.to_str().is_some_and(|path| self.catalogue.contains(path)) {
                self.doubt(path);
            }
        }
    }

    fn look(&mut self, path: &Path) {
        // Patterns match UTF-8 only.
        let Some(name) = path.to_str() else { return };
        self.catalogue.absorb(name, reading::read(path));
    }

    /// Removes what has stayed away. What is back is either being written, and will be noticed when it
    /// is whole, or was noticed already.
    fn let_go(&mut self, now: Instant) {
        let catalogue = &mut self.catalogue;
        self.leaving.retain(|path, believed| {
            if *believed > now {
                return true;
            }
            let absent = std::fs::metadata(path).is_err_and(|error| is_absence(&error));
            if let Some(path) = path.to_str().filter(|_| absent) {
                catalogue.remove(path);
            }
            false
        });
    }
}
