//! The registry of a fleet that keeps etcd: 3.4 or later.
//!
//! One task owns the session (`session.rs`): a connection to one server of the cluster and a lease
//! (`connection.rs`). It reads everything at one revision (`read.rs`), watches from the next one on
//! (`watch.rs`), and keeps the published state as the servers have it. The trait's reads and writes are
//! requests and transactions on the connection that it holds (`write.rs`). What this process registered
//! outlives a lease (`registration.rs`).
//!
//! **What is an entry.** Every key below the prefix; there are no directories. A value that is too large is
//! published as an empty one: the key is there, and bad.
//!
//! **Versions.** [`Entry::version`] is the key's `mod_revision`, `created` its `create_revision`: numbers
//! that no other state of that key has or will have.
//!
//! **Silence.** A connection that says nothing proves nothing. The lease is kept alive three times in a
//! session timeout and every answer is waited for; a watch without news is asked for its progress; requests
//! ask for a server that has a leader. So a server that hangs, and one that is cut off from the others, are
//! left for the next one. We send no HTTP/2 pings: servers end connections with more than one in five seconds.

mod connection;
mod read;
mod registration;
mod session;
mod watch;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::registry::{
    Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State, Step, check_steps, check_value,
};
use crate::remote::registrations::Registrations;
use crate::remote::root::Root;
use crate::remote::{Access, DEFAULT_PREFIX, DEFAULT_SESSION_TIMEOUT};
use connection::Connection;
use session::Supervisor;
use write::{Failure, Target, Targets};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of servers of the cluster, asked in turn.
    pub servers: Vec<String>,
    /// Below it, and a slash, all keys are.
    pub prefix: String,
    /// Rounded up to whole seconds for the lease; etcd grants 2 s at least.
    pub session_timeout: Duration,
    pub access: Access,
}

impl Settings {
    /// These servers, the rest as by default.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            prefix: DEFAULT_PREFIX.to_owned(),
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            access: Access::default(),
        }
    }
}

/// A handle on one cluster. Dropping it gives the lease back in the background; [`Etcd::close`] waits
/// for that.
pub struct Etcd {
    shared: Arc<Shared>,
    stop: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and its supervisor both see.
struct Shared {
    root: Root,
    settings: Settings,
    state: channel::Sender<State>,
    /// What reads and writes use.
    connection: Mutex<Option<Connection>>,
    registrations: Registrations,
}

impl Shared {
    fn connection(&self) -> Result<Connection, Failure> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connection.ok_or(Failure::NotConnected)
    }

    fn set_connection(&self, connection: Option<Connection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

impl Etcd {
    /// Returns at once and connects in the background, for as long as it takes. Must be called on a
    /// runtime.
    pub fn connect(settings: Settings) -> Arc<Self> {
        let (state, _) = channel::channel(State {
            link: Link::Connecting { why: None },
            revision: 0,
            ahead: false,
            entries: OrdMap::new(),
        });
        let shared = Arc::new(Shared {
            root: Root::new(&settings.prefix),
            settings,
            state,
            connection: Mutex::new(None),
            registrations: Registrations::default(),
        });
        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(Arc::clone(&shared));
        let supervisor = tokio::spawn(supervisor.run(stop.clone()));
        Arc::new(Self { shared, stop, supervisor: Mutex::new(Some(supervisor)) })
    }

    /// Gives the lease back and returns when the servers have confirmed it, so that nothing of the session
    /// is left; after a session timeout at the latest, when nothing of it can be left.
    pub async fn close(&self) {
        self.stop.cancel();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the registry's supervisor failed");
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
}

#[async_trait]
impl Registry for Etcd {
    fn watch(&self) -> channel::Receiver<State> {
        self.shared.state.subscribe()
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, RegistryError> {
        let target = Target::new(key, self.shared.root.path(key));
        let read = async {
            let mut connection = self.shared.connection()?;
            Ok(target.read(&mut connection).await?.map(|found| found.entry))
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
        let target = Target::new(key, self.shared.root.path(key));
        let write = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let mut connection = self.shared.connection()?;
            let claim = (lifetime == Lifetime::Session)
                .then(|| self.shared.registrations.claim(key, value.clone(), connection.lease));
            let version = target.put(&mut connection, &value, expect, lifetime).await?;
            match claim {
                Some(claim) => claim.confirm(),
                None => _ = self.shared.registrations.release(key),
            }
            Ok(version)
        };
        self.bounded(format!("write {key}"), &target, write).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
        let target = Target::new(key, self.shared.root.path(key));
        let delete = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let mut connection = self.shared.connection()?;
            // Forgotten first: should no answer come, what was to go must not come back by itself.
            let held = self.shared.registrations.release(key);
            let outcome = target.remove(&mut connection, expect).await;
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
        let targets = Targets::new(steps, |key| self.shared.root.path(key));
        let work = async {
            let _ours = self.shared.registrations.pause_restoring().await;
            let mut connection = self.shared.connection()?;
            // Forgotten first, as in a deletion: every step ends a registration.
            let held: Vec<_> =
                steps.iter().map(|step| (&step.key, self.shared.registrations.release(&step.key))).collect();
            let outcome = targets.change(&mut connection).await;
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

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
