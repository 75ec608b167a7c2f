//! A registry in memory, with sessions, and with answers that are lost.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use discovery::registry::{Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State, Step};
use imbl::OrdMap;
use tokio::sync::watch;

pub(in crate::engine) struct Store {
    state: watch::Sender<State>,
    /// Key → session that it lives with.
    sessions: Mutex<Vec<(Key, u64)>>,
    next: Mutex<u64>,
    /// Of answers to transactions, in percent, how many are lost: half of them after it has happened.
    losses: Mutex<(u32, fastrand::Rng)>,
    /// Looks at every address that is written.
    watcher: Mutex<Option<Watcher>>,
}

type Watcher = Box<dyn Fn(&Key) + Send>;

/// One session.
pub(in crate::engine) struct Handle {
    store: Arc<Store>,
    session: u64,
}

impl Store {
    pub(in crate::engine) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            link: Link::Connected { since: Instant::now() },
            revision: 1,
            ahead: false,
            entries: OrdMap::new(),
        };
        Arc::new(Self {
            state: watch::Sender::new(state),
            sessions: Mutex::default(),
            next: Mutex::new(0),
            losses: Mutex::new((0, fastrand::Rng::with_seed(seed))),
            watcher: Mutex::default(),
        })
    }

    pub(in crate::engine) fn open(self: &Arc<Self>) -> Arc<Handle> {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        Arc::new(Handle { store: Arc::clone(self), session: *next })
    }

    pub(in crate::engine) fn lose(&self, percent: u32) {
        self.losses.lock().unwrap().0 = percent;
    }

    pub(in crate::engine) fn look_at(&self, watcher: impl Fn(&Key) + Send + 'static) {
        *self.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    pub(in crate::engine) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(in crate::engine) fn put(&self, key: &str, value: &str) {
        let step =
            Step { key: Key::parse(key).unwrap(), value: Some(value.to_owned().into()), expect: Expect::Any };
        self.apply(&[step]).unwrap();
    }

    pub(in crate::engine) fn remove(&self, key: &str) {
        let step = Step { key: Key::parse(key).unwrap(), value: None, expect: Expect::Any };
        self.apply(&[step]).unwrap();
    }

    fn apply(&self, steps: &[Step]) -> Result<u64, RegistryError> {
        assert!(steps.len() <= discovery::registry::MAX_STEPS, "{} keys at once", steps.len());
        let mut state = self.state.borrow().clone();
        for step in steps {
            let present = state.entries.get(&step.key).map(|entry| entry.version);
            let admits = match step.expect {
                Expect::Any => true,
                Expect::Absent => present.is_none(),
                Expect::Version(version) => present == Some(version),
            };
            if !admits {
                return Err(RegistryError::Conflict { key: step.key.clone(), expected: step.expect });
            }
        }
        state.revision += 1;
        for step in steps {
            assert_eq!(steps.iter().filter(|other| other.key == step.key).count(), 1, "{} twice", step.key);
            match &step.value {
                None => drop(state.entries.remove(&step.key)),
                Some(value) => {
                    if step.key.as_str().starts_with("service/")
                        && let Some(watcher) = &*self.watcher.lock().unwrap()
                    {
                        watcher(&step.key);
                    }
                    let created = state.entries.get(&step.key).map_or(state.revision, |entry| entry.created);
                    let version = state.revision;
                    let entry = Entry { value: value.clone(), version, created, ephemeral: false };
                    state.entries.insert(step.key.clone(), entry);
                }
            }
        }
        let revision = state.revision;
        self.state.send_replace(state);
        Ok(revision)
    }
}

fn lost(may_have_happened: bool) -> RegistryError {
    RegistryError::Failed {
        doing: "change".to_owned(),
        may_have_happened,
        source: "the answer was lost".into(),
    }
}

#[async_trait]
impl Registry for Handle {
    fn watch(&self) -> watch::Receiver<State> {
        self.store.state.subscribe()
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, RegistryError> {
        Ok(self.store.state.borrow().entries.get(key).cloned())
    }

    async fn write(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, RegistryError> {
        let step = Step { key: key.clone(), value: Some(value), expect };
        let version = self.store.apply(&[step])?;
        if lifetime == Lifetime::Session {
            self.store.sessions.lock().unwrap().push((key.clone(), self.session));
        }
        Ok(version)
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
        self.store.apply(&[Step { key: key.clone(), value: None, expect }]).map(drop)
    }

    async fn transact(&self, steps: &[Step]) -> Result<u64, RegistryError> {
        let (is_lost, happens) = {
            let (percent, rng) = &mut *self.store.losses.lock().unwrap();
            (rng.u32(..100) < *percent, rng.bool())
        };
        if !is_lost {
            return self.store.apply(steps);
        }
        if happens {
            self.store.apply(steps)?;
        }
        Err(lost(true))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut sessions = self.store.sessions.lock().unwrap();
        let (over, rest) =
            std::mem::take(&mut *sessions).into_iter().partition(|(_, session)| *session == self.session);
        *sessions = rest;
        for (key, _) in Vec::from_iter::<Vec<(Key, u64)>>(over) {
            let _ = self.store.apply(&[Step { key, value: None, expect: Expect::Any }]);
        }
    }
}
