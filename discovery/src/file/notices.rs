//! The kernel's notices (inotify), and which folders they are asked for.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::FilePattern;
use super::inbox::Inbox;

/// The watches in force.
pub(super) struct Notices {
    /// `None` where the kernel grants no inotify instance.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Every folder that should be watched is.
    complete: bool,
}

impl Notices {
    pub(super) fn start(patterns: Arc<[FilePattern]>, inbox: Arc<Inbox>) -> Self {
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => sort(&event, &patterns, &inbox),
            Err(error) => {
                tracing::warn!(%error, "file notices were lost; comparing every file");
                inbox.rescan();
            }
        };
        let watcher = notify::recommended_watcher(handler);
        let watcher = watcher.map_err(|error| tracing::warn!(%error, "cannot watch app files")).ok();
        Self { watcher, watched: BTreeSet::new(), complete: false }
    }

    /// Whether a change is sure to be noticed without looking.
    pub(super) fn are_complete(&self) -> bool {
        self.complete
    }

    /// Forgets all watches: those of a replaced folder would go on reporting the old one.
    pub(super) fn forget(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            for folder in std::mem::take(&mut self.watched) {
                // The kernel has already dropped the watch of a folder that is gone.
                let _ = watcher.unwatch(&folder);
            }
        }
    }

    /// Watches `folders`; where one is absent or a symbolic link, also the folder in which it would
    /// appear or be replaced. Tells whether there are new watches.
    pub(super) fn cover(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeSet<PathBuf> = folders.iter().flat_map(|folder| to_watch(folder)).collect();
        self.watched.retain(|folder| {
            let keep = wanted.contains(folder);
            if !keep {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        self.complete = true;
        let before = self.watched.len();
        for folder in wanted {
            if self.watched.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder of app files");
                    self.complete = false;
                }
            }
        }
        self.watched.len() > before
    }
}

fn to_watch(folder: &Path) -> Vec<PathBuf> {
    let is_link = std::fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink());
    let exists = folder.is_dir();
    let mut folders = Vec::new();
    if exists {
        folders.push(folder.to_owned());
    }
    if !exists || is_link {
        folders.extend(folder.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned));
    }
    folders
}

/// Turns one notice into work. Runs on the notifier's thread: no parsing, no waiting.
fn sort(event: &Event, patterns: &[FilePattern], inbox: &Inbox) {
    if event.need_rescan() {
        return inbox.rescan();
    }
    let change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Saved,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Change::MovedIn,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => Change::Gone,
        EventKind::Create(_) => Change::Created,
        _ => return,
    };
    let folder =
        matches!(event.kind, EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder));
    for path in &event.paths {
        let meant = !folder && patterns.iter().any(|pattern| pattern.matches(path));
        match change {
            Change::Saved | Change::MovedIn if meant => inbox.saved(path.clone()),
            Change::Created if meant && is_whole(path) => inbox.saved(path.clone()),
            Change::Gone if meant => inbox.gone(path.clone()),
            Change::Saved => {}
            _ if meant => {}
            // A folder of ours, or one above, came or went.
            _ if patterns.iter().any(|pattern| pattern.leads_through(path)) => inbox.rewatch(),
            // Kubernetes replaces all files of a mounted folder by moving one symbolic link.
            Change::MovedIn if !path.is_file() || path.is_symlink() => inbox.rescan(),
            _ => {}
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Saved,
    MovedIn,
    Gone,
    Created,
}

/// A new name for a file that was written before, not one that somebody is about to write: that will
/// be closed, and noticed then.
fn is_whole(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink() || found.nlink() > 1)
}
