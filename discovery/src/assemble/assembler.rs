//! One step from a snapshot to the next. No I/O, no time.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use topology::{
    App, AppId, AppSpec, CertificateName, CertificatePem, InstanceKey, Rejection, Revision, Snapshot,
};

use super::registered::RegisteredApp;
use crate::file::{FileApp, FileState};
use crate::layout::{Misplaced, Place, app_key, parse_address_value, parse_word_value, spec_key};
use crate::registry::{Entry, Key, State};
use crate::secrets::{Keys, is_sealed, unseal};
use crate::spec::{Interner, parse_app_value, parse_route_value};

/// Whether the apps or rejections of a snapshot differ from its predecessor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    Changed,
}

/// The sources as last seen, and the snapshot that follows from them.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    keys: Option<Keys>,
    entries: OrdMap<Key, Entry>,
    files: FileState,
    registered: HashMap<AppId, RegisteredApp>,
    snapshot: Snapshot,
    /// The version of what was new of an app, while the registry's revision is still to reach it. Removals have none: `u64::MAX`.
    unreached: Option<u64>,
    interner: Interner,
    /// Apps of which a source says something new, during [`Assembler::apply`].
    touched: BTreeSet<AppId>,
    changed: bool,
    keeps: bool,
}

impl Assembler {
    pub(super) fn new(keys: Option<Keys>) -> Self {
        Self { keys, ..Self::default() }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether the value of `key` as it stands cannot be used. That a file's spec holds instead is no fault of the value.
    pub(super) fn rejects(&self, key: &Key) -> bool {
        let app = match Place::of(key) {
            Ok(Place::Spec(app)) => app,
            Ok(Place::Route(route)) => AppId::of_route(&route),
            _ => return self.snapshot.rejections.contains_key(key.as_str()),
        };
        self.registered.get(&app).is_some_and(|registered| registered.spec_fault.is_some())
    }

    /// Takes in what the sources say now. `keeps`: a key that was made anew keeps its last good value, since its registry has
    /// lost what there was.
    pub(super) fn apply(&mut self, state: &State, files: &FileState, keeps: bool) -> Outcome {
        self.changed = false;
        self.keeps = keeps;
        self.snapshot.registry_revision = state.revision;
        let entries = std::mem::replace(&mut self.entries, state.entries.clone());
        for change in entries.diff(&state.entries) {
            if self.follow_key(&change) {
                let version = match change {
                    DiffItem::Add(_, entry) | DiffItem::Update { new: (_, entry), .. } => entry.version,
                    DiffItem::Remove(..) => u64::MAX,
                };
                self.unreached = self.unreached.max(Some(version));
            }
        }
        if let Some(version) = self.unreached {
            self.snapshot.routed_revision = state.revision;
            if !state.ahead || state.revision >= version {
                self.unreached = None;
            }
        }
        let before = std::mem::replace(&mut self.files, files.clone());
        for change in before.apps.diff(&files.apps) {
            let (DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } | DiffItem::Remove(id, _)) =
                change;
            self.touched.insert(id.clone());
        }
        for change in before.rejections.diff(&files.rejections) {
            match change {
                DiffItem::Add(path, new) | DiffItem::Update { new: (path, new), .. } => {
                    self.put_rejection(path, Some(new.clone()));
                }
                DiffItem::Remove(path, _) => self.put_rejection(path, None),
            }
        }
        std::mem::take(&mut self.touched).iter().for_each(|id| self.rebuild(id));
        if !self.changed {
            return Outcome::Unchanged;
        }
        self.snapshot.revision = Revision(self.snapshot.revision.0 + 1);
        Outcome::Changed
    }

    /// Whether the key is of an app.
    fn follow_key(&mut self, change: &DiffItem<'_, '_, Key, Entry>) -> bool {
        let (DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _)) =
            *change;
        match *change {
            DiffItem::Add(key, entry) => self.put_key(key, entry),
            DiffItem::Update { old: (_, old), new: (key, new) } => {
                // Removed and made again since: what was there before is nobody's last good value.
                if old.created != new.created && !self.keeps {
                    self.forget_key(key);
                }
                self.put_key(key, new);
            }
            DiffItem::Remove(key, _) => {
                self.forget_key(key);
                self.put_rejection(key.as_str(), None);
            }
        }
        !matches!(Place::of(key), Ok(Place::Other))
    }

    fn put_key(&mut self, key: &Key, entry: &Entry) {
        match Place::of(key) {
            Ok(Place::Address { app, key: instance }) => self.put_address(key, app, instance, entry),
            Ok(Place::Spec(app)) => self.put_spec(key, app, entry),
            Ok(Place::Word { app, key: instance }) => self.put_word(key, app, instance, entry),
            Ok(Place::Route(route)) => self.put_spec(key, AppId::of_route(&route), entry),
            Ok(Place::Certificate(name)) => self.put_certificate(key, name, entry),
            Ok(Place::Other) => {}
            Err(Misplaced { app, reason }) => {
                let reason = format!("{key}: {reason}").into();
                self.put_rejection(key.as_str(), Some(Rejection { app, reason }));
            }
        }
    }

    fn put_address(&mut self, key: &Key, app: AppId, instance: InstanceKey, entry: &Entry) {
        match parse_address_value(key.as_str(), instance, &entry.value) {
            Ok(mut endpoint) => {
                self.interner.share_endpoint(&mut endpoint);
                self.put_rejection(key.as_str(), None);
                self.touched.insert(app.clone());
                self.registered.entry(app).or_default().put_endpoint(endpoint, entry.created);
            }
            Err(mistakes) => {
                let rejection = Rejection { app: Some(app), reason: mistakes.to_string().into() };
                self.put_rejection(key.as_str(), Some(rejection));
            }
        }
    }

    fn put_word(&mut self, key: &Key, app: AppId, instance: InstanceKey, entry: &Entry) {
        match parse_word_value(key.as_str(), &entry.value) {
            Ok(word) => {
                self.put_rejection(key.as_str(), None);
                tracing::info!(
                    target: "sluice::health",
                    %app, version = %instance.version, instance = %instance.instance,
                    state = word.state.as_str(), weight = word.weight,
                    "an operator's word"
                );
                self.touched.insert(app.clone());
                let registered = self.registered.entry(app).or_default();
                Arc::make_mut(&mut registered.words).insert(instance, word);
            }
            Err(mistakes) => {
                let rejection = Rejection { app: Some(app), reason: mistakes.to_string().into() };
                self.put_rejection(key.as_str(), Some(rejection));
            }
        }
    }

    fn put_spec(&mut self, key: &Key, app: AppId, entry: &Entry) {
        let read = self.read_spec(key, &app, &entry.value);
        self.touched.insert(app.clone());
        let registered = self.registered.entry(app).or_default();
        match read {
            Ok(mut spec) => {
                self.interner.share_spec(&mut spec);
                registered.spec = Some((Arc::new(spec), entry.created));
                registered.spec_fault = None;
            }
            Err(mistakes) => registered.spec_fault = Some(mistakes.into()),
        }
    }

    fn put_certificate(&mut self, key: &Key, name: CertificateName, entry: &Entry) {
        match self.open_certificate(key, &entry.value) {
            Ok(pem) => {
                self.put_rejection(key.as_str(), None);
                self.changed |= self.snapshot.certificates.get(&name) != Some(&pem);
                self.snapshot.certificates.insert(name, pem);
            }
            Err(reason) => {
                let rejection = Rejection { app: None, reason: reason.into() };
                self.put_rejection(key.as_str(), Some(rejection));
            }
        }
    }

    fn open_certificate(&self, key: &Key, value: &[u8]) -> Result<CertificatePem, String> {
        if !is_sealed(value) {
            return Err(format!(
                "{key}: is not sealed, so whoever reads the registry has its private key; seal it \
                 (sluice secret encrypt --key {key}) and use another private key"
            ));
        }
        let plain = unseal(self.keys.as_ref(), key, value).map_err(|error| format!("{key}: {error}"))?;
        Ok(CertificatePem::new(&plain))
    }

    /// The reason that it cannot be used says nothing of what was sealed but the names of its keys.
    fn read_spec(&self, key: &Key, app: &AppId, value: &[u8]) -> Result<AppSpec, String> {
        let plain = unseal(self.keys.as_ref(), key, value).map_err(|error| format!("{key}: {error}"))?;
        let parsed = match app.route() {
            Some(_) => parse_route_value(key.as_str(), &plain),
            None => parse_app_value(key.as_str(), &plain, app),
        };
        parsed.map_err(|mistakes| match plain {
            Cow::Borrowed(_) => mistakes.to_string(),
            Cow::Owned(_) => {
                let names: Vec<_> = mistakes.iter().map(|mistake| &*mistake.key).collect();
                format!("{key}: is sealed, and what was sealed is wrong at: {}", names.join(", "))
            }
        })
    }

    /// Drops the last good value of `key`.
    fn forget_key(&mut self, key: &Key) {
        let place = Place::of(key);
        let app = match &place {
            Ok(Place::Address { app, .. } | Place::Spec(app) | Place::Word { app, .. }) => app.clone(),
            Ok(Place::Route(route)) => AppId::of_route(route),
            Ok(Place::Certificate(name)) => {
                self.changed |= self.snapshot.certificates.remove(name).is_some();
                return;
            }
            Ok(Place::Other) | Err(_) => return,
        };
        if let Some(registered) = self.registered.get_mut(&app) {
            match &place {
                Ok(Place::Address { key: instance, .. }) => registered.remove_endpoint(instance),
                Ok(Place::Word { key: instance, .. }) => {
                    Arc::make_mut(&mut registered.words).remove(instance);
                }
                _ => (registered.spec, registered.spec_fault) = (None, None),
            }
        }
        self.touched.insert(app);
    }

    fn rebuild(&mut self, id: &AppId) {
        if self.registered.get(id).is_some_and(RegisteredApp::is_empty) {
            self.registered.remove(id);
        }
        self.publish_words(id);
        let fault = self.spec_rejection(id);
        self.put_rejection(spec_key(id).as_str(), fault);
        match self.combine(id) {
            Some(app) if self.snapshot.apps.get(id) == Some(&app) => {}
            Some(app) => {
                self.snapshot.apps.insert(id.clone(), app);
                self.changed = true;
            }
            None => self.changed |= self.snapshot.apps.remove(id).is_some(),
        }
    }

    fn combine(&mut self, id: &AppId) -> Option<Arc<App>> {
        let file = self.files.apps.get(id).map(|found| &found.app);
        let registered = self.registered.get(id);
        let Some(registered) = registered.filter(|known| !known.is_unknown() || !known.words.is_empty())
        else {
            return file.cloned();
        };
        let app = match file {
            Some(file) => App { endpoints: registered.endpoints_with(&file.endpoints), ..App::clone(file) },
            None if registered.is_unknown() => return None,
            None => App {
                id: id.clone(),
                spec: match &registered.spec {
                    Some((spec, _)) => Arc::clone(spec),
                    None => self.interner.implied_spec(),
                },
                endpoints: registered.endpoints_with(&[]),
                claimed: registered.claimed(),
            },
        };
        Some(Arc::new(app))
    }

    fn publish_words(&mut self, id: &AppId) {
        let words = self.registered.get(id).map(|registered| &registered.words);
        let words = words.filter(|words| !words.is_empty());
        if self.snapshot.words.get(id) == words {
            return;
        }
        self.changed = true;
        match words {
            Some(words) => self.snapshot.words.insert(id.clone(), words.clone()),
            None => self.snapshot.words.remove(id),
        };
    }

    /// What there is to say of the registry's spec: that it is bad, or that a file's holds instead.
    fn spec_rejection(&self, id: &AppId) -> Option<Rejection> {
        let registered = self.registered.get(id)?;
        let shadowed = |FileApp { path, .. }: &FileApp| -> Arc<str> {
            format!("{}: the spec in {path} holds instead; keep one of the two", app_key(id)).into()
        };
        let reason = registered
            .spec_fault
            .clone()
            .or_else(|| registered.spec.as_ref().and_then(|_| self.files.apps.get(id)).map(shadowed))?;
        Some(Rejection { app: Some(id.clone()), reason })
    }

    fn put_rejection(&mut self, place: &str, rejection: Option<Rejection>) {
        if self.snapshot.rejections.get(place) == rejection.as_ref() {
            return;
        }
        self.changed = true;
        match rejection {
            Some(rejection) => {
                let app = rejection.app.as_ref().map(AppId::as_str);
                tracing::warn!(app, reason = &*rejection.reason, "rejected; what was good before stays");
                self.snapshot.rejections.insert(Arc::from(place), rejection);
            }
            None => {
                tracing::info!(place, "no longer rejected");
                self.snapshot.rejections.remove(place);
            }
        }
    }
}
