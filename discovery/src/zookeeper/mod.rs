//! The registry of a fleet: ZooKeeper 3.6 or later, which brought recursive watches.
//!
//! One task owns the session (`session.rs`) and keeps the published state as the servers have it
//! (`watched.rs`, `tree.rs`); the trait's reads and writes use the session it holds (`write.rs`). What
//! this process registered outlives an expiry (`registration.rs`). Who may do what with the nodes that we
//! create is in `acl.rs`.
//!
//! **What is an entry.** Nodes are entries and directories at once, so: a node with a value is an entry,
//! and so is an ephemeral node without one (it is never a directory; the layout above reports it as bad).
//! A persistent node without a value is structure: no entry, whether or not anything is below it. A value
//! that is too large or that we may not read is published as an empty one: the key is there, and bad.
//!
//! **Versions.** [`Entry::version`] is the node's `mzxid`, `created` its `czxid`: numbers that no other
//! state of that path has or will have, also not after it was deleted and made again.

mod acl;
mod node;
mod registration;
mod session;
mod transact;
mod tree;
mod watched;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zookeeper_client::Client;

use crate::registry::{
    Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State, Step, check_steps, check_value,
};
use crate::remote::registrations::Registrations;
use crate::remote::root::Root;
use crate::remote::{Access, DEFAULT_PREFIX, DEFAULT_SESSION_TIMEOUT};
use session::Supervisor;
use transact::Targets;
use write::{Failure, Target};

pub use acl::Acl;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of each server of the ensemble.
    pub servers: Vec<String>,
    /// The node below which all keys are; it is created if it does not exist.
    pub prefix: String,
    /// What we ask for; the servers bound it by their ticks.
    pub session_timeout: Duration,
    /// With TLS, a `ca` is needed and the servers prove to be the hosts that `servers` names.
    pub access: Access,
    /// Of nodes that we create. Others keep what they have.
    pub acl: Acl,
}

impl Settings {
    /// These servers, the rest as by default.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            prefix: DEFAULT_PREFIX.to_owned(),
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            access: Access::default(),
            acl: Acl::Open,
        }
    }
}

/// A handle on one ensemble. Dropping it ends the session in the background; [`ZooKeeper::close`] waits
/// for that.
pub struct ZooKeeper {
    shared: Arc<Shared>,
    stop: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and its supervisor both see.
struct Shared {
    root: Root,
    settings: Settings,
    state: watch::Sender<State>,
    /// The session that reads and writes use.
    client: Mutex<Option<Client>>,
    registrations: Registrations,
}

impl Shared {
    fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

impl ZooKeeper {
    /// Returns at once and connects in the background, for as long as it takes. Must be called on a
    /// runtime.
    pub fn connect(settings: Settings) -> Arc<Self> {
        let (state, _) = watch::channel(State {
            link: Link::Connecting { why: None },
            revision: 0,
            ahead: false,
            entries: OrdMap::new(),
        });
        let shared = Arc::new(Shared {
            root: Root::new(&settings.prefix),
            settings,
            state,
            client: Mutex::new(None),
            registrations: Registrations::default(),
        });
        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(Arc::clone(&shared));
        let supervisor = tokio::spawn(supervisor.run(stop.clone()));
        Arc::new(Self { shared, stop, supervisor: Mutex::new(Some(supervisor)) })
    }

    /// Ends the session and returns when the servers have confirmed it, so that nothing of it is left;
    /// after a session timeout at the latest, when nothing of it can be left.
    pub async fn close(&self) {
        let states = self.shared.client().map(|client| client.state_watcher());
        self.stop.cancel();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the registry's supervisor failed");
        }
        if let Some(mut states) = states {
            let ended = async { while !states.changed().await.is_terminated() {} };
            let _ = tokio::time::timeout(self.shared.settings.session_timeout, ended).await;
        }
    }

    /// Nothing waits longer for an answer than the session would live without one.
    async fn bounded<T>(
        &self,
        doing: String,
        target: &Target,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, RegistryError> {
        let limit = self.shared.settings.session_timeout;
        let outcome = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::NoAnswer(limit)));
        outcome.map_err(|failure| target.explain(doing, failure))
    }

    fn session(&self) -> Result<Client, Failure> {
        use zookeeper_client::SessionState::SyncConnected;
        // A request to a session that is cut off would be kept and sent some time later.
        self.shared.client().filter(|client| client.state() == SyncConnected).ok_or(Failure::NotConnected)
    }
}

#[async_trait]
impl Registry for ZooKeeper {
    fn watch(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, RegistryError> {
        let target = Target::new(key, self.shared.root.path(key), self.shared.settings.acl);
        let read = async {
            let client = self.session()?;
            let node = target.read(&client).await?;
            Ok(node.and_then(|node| node.entry()))
        };
        self.bounded(format!("read {key}"), &target, read).await
    }

    async fn write(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, RegistryError> {
        check_value(key, &value)?;
        let target = Target::new(key, self.shared.root.path(key), self.shared.settings.acl);
        let write = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let client = self.session()?;
            let claim = (lifetime == Lifetime::Session)
                .then(|| self.shared.registrations.claim(key, value.clone(), client.session_id().0));
            let version = target.put(&client, &value, expect, lifetime).await?;
            match claim {
                Some(claim) => claim.confirm(),
                None => _ = self.shared.registrations.release(key),
            }
            Ok(version)
        };
        self.bounded(format!("write {key}"), &target, write).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
        let target = Target::new(key, self.shared.root.path(key), self.shared.settings.acl);
        let delete = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let client = self.session()?;
            // Forgotten first: should no answer come, what was to go must not come back by itself.
            let held = self.shared.registrations.release(key);
            let outcome = target.remove(&client, expect).await;
            if let (Err(Failure::Conflict(_)), Some(held)) = (&outcome, held) {
                self.shared.registrations.hold(key, held);
            }
            outcome
        };
        self.bounded(format!("delete {key}"), &target, delete).await
    }

    async fn transact(&self, steps: &[Step]) -> Result<u64, RegistryError> {
        check_steps(steps)?;
        if steps.is_empty() {
            return Ok(self.shared.state.borrow().revision);
        }
        let targets = Targets::new(steps, |key| self.shared.root.path(key), self.shared.settings.acl);
        let work = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let client = self.session()?;
            // Forgotten first, as in a deletion: every step ends a registration.
            let held: Vec<_> =
                steps.iter().map(|step| (&step.key, self.shared.registrations.release(&step.key))).collect();
            let outcome = targets.change(&client).await;
            if let Err(Failure::Conflict(_)) = &outcome {
                for (key, held) in held {
                    held.into_iter().for_each(|held| self.shared.registrations.hold(key, held));
                }
            }
            outcome
        };
        let limit = self.shared.settings.session_timeout;
        let outcome = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::NoAnswer(limit)));
        outcome.map_err(|failure| targets.explain(format!("change {} keys", steps.len()), failure))
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
