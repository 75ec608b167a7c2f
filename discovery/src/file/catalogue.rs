//! What is known of every file, and what follows for the apps. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use topology::{App, AppId, Rejection};

use super::reading::{Reading, Stamp};
use super::{FileApp, FileState};
use crate::spec::{Interner, read_app_file};

/// Which app a file gives: its last good one.
#[derive(Debug)]
struct Record {
    stamp: Option<Stamp>,
    good: Option<Arc<App>>,
    /// What is wrong with the file as it is.
    fault: Option<Rejection>,
}

/// All files, by path. Of several that claim one app id, the first path in order has it, whenever it
/// was written: so a restart changes nothing.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    records: BTreeMap<Arc<str>, Record>,
    /// Which files' last good apps have that id, in order.
    claims: HashMap<AppId, Vec<Arc<str>>>,
    state: FileState,
    changed: bool,
    interner: Interner,
}

impl Catalogue {
    /// The state, if it has changed since the last call.
    pub(super) fn take_changed(&mut self) -> Option<FileState> {
        std::mem::take(&mut self.changed).then(|| self.state.clone())
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.records.keys()
    }

    pub(super) fn stamp(&self, path: &str) -> Option<Stamp> {
        self.records.get(path).and_then(|record| record.stamp)
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.records.contains_key(path)
    }

    /// Takes in what a look at `path` found.
    pub(super) fn absorb(&mut self, path: &str, reading: Reading) {
        match reading {
            Reading::Absent => self.remove(path),
            Reading::Unreadable(stamp, why) => self.reject(path, stamp, None, &format!("{path}: {why}")),
            Reading::Text(stamp, text) => match read_app_file(path, &text) {
                (_, Ok(app)) => self.accept(path, stamp, app),
                (app, Err(mistakes)) => self.reject(path, Some(stamp), app, &mistakes.to_string()),
            },
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        let Some((path, record)) = self.records.remove_entry(path) else { return };
        self.put_rejection(&path, None);
        if let Some(app) = record.good {
            self.unclaim(&path, &app.id);
        }
    }

    fn accept(&mut self, path: &str, stamp: Stamp, mut app: App) {
        let (path, before) = self.before(path);
        if before.as_deref() == Some(&app) {
            self.records.insert(Arc::clone(&path), Record { stamp: Some(stamp), good: before, fault: None });
            self.settle(&app.id);
            return;
        }
        self.interner.share_app(&mut app);
        let id = app.id.clone();
        let record = Record { stamp: Some(stamp), good: Some(Arc::new(app)), fault: None };
        self.records.insert(Arc::clone(&path), record);
        if let Some(old) = before.filter(|old| old.id != id) {
            self.unclaim(&path, &old.id);
        }
        self.claim(path, &id);
    }

    fn reject(&mut self, path: &str, stamp: Option<Stamp>, app: Option<AppId>, reason: &str) {
        let (path, good) = self.before(path);
        let app = good.as_ref().map(|app| app.id.clone()).or(app);
        let fault = Rejection { app, reason: Arc::from(reason) };
        self.put_rejection(&path, Some(fault.clone()));
        self.records.insert(path, Record { stamp, good, fault: Some(fault) });
    }

    fn before(&self, path: &str) -> (Arc<str>, Option<Arc<App>>) {
        match self.records.get_key_value(path) {
            Some((path, record)) => (Arc::clone(path), record.good.clone()),
            None => (Arc::from(path), None),
        }
    }

    fn claim(&mut self, path: Arc<str>, id: &AppId) {
        let claimants = self.claims.entry(id.clone()).or_default();
        match claimants.binary_search(&path) {
            // The holder stays, so nobody else is concerned.
            Err(at) if at > 0 => {
                claimants.insert(at, Arc::clone(&path));
                let holder = Arc::clone(&claimants[0]);
                self.settle_claimant(id, &holder, &path);
            }
            found => {
                if found.is_err() {
                    claimants.reserve_exact(1);
                    claimants.insert(0, path);
                }
                self.settle(id);
            }
        }
    }

    fn unclaim(&mut self, path: &Arc<str>, id: &AppId) {
        if let Some(claimants) = self.claims.get_mut(id) {
            claimants.retain(|claimant| claimant != path);
            if claimants.is_empty() {
                self.claims.remove(id);
            }
        }
        self.settle(id);
    }

    /// Gives the app to the first of its claimants and tells the others.
    fn settle(&mut self, id: &AppId) {
        let claimants = self.claims.get(id).cloned().unwrap_or_default();
        let Some(holder) = claimants.first() else {
            self.changed |= self.state.apps.remove(id).is_some();
            return;
        };
        claimants.iter().for_each(|claimant| self.settle_claimant(id, holder, claimant));
    }

    fn settle_claimant(&mut self, id: &AppId, holder: &Arc<str>, path: &Arc<str>) {
        let Some(Record { good: Some(app), fault, .. }) = self.records.get(path) else { return };
        let (app, fault) = (Arc::clone(app), fault.clone());
        let conflict = || Rejection {
            app: Some(id.clone()),
            reason: format!("{path}: id: app {id:?} is in {holder} already; keep one of the two").into(),
        };
        let rejection = fault.or_else(|| (path != holder).then(conflict));
        self.put_rejection(path, rejection);
        if path == holder {
            self.put_app(FileApp { path: Arc::clone(path), app });
        }
    }

    fn put_app(&mut self, found: FileApp) {
        if self.state.apps.get(&found.app.id) != Some(&found) {
            self.changed = true;
            self.state.apps.insert(found.app.id.clone(), found);
        }
    }

    fn put_rejection(&mut self, path: &Arc<str>, rejection: Option<Rejection>) {
        if self.state.rejections.get(path) == rejection.as_ref() {
            return;
        }
        self.changed = true;
        match rejection {
            Some(rejection) => self.state.rejections.insert(Arc::clone(path), rejection),
            None => self.state.rejections.remove(path),
        };
    }
}
