//! The task that keeps a session and, through it, the published state.
//!
//! Level-triggered: events only say which paths to read again. Watches may lose events while a
//! connection is replaced (ZOOKEEPER-4698), and `zookeeper-client` 0.11.2 does not set persistent watches
//! again on the new one (its `resend_watches` computes `index.max(index)` and so sends the older request,
//! which has no place for them). So after every reconnection, in the same session or a new one, we set
//! the watch and read everything again before the link counts as connected. Until then the former state
//! stands.

use std::sync::Arc;
use std::time::Instant;

use imbl::OrdMap;
use tokio_util::sync::CancellationToken;
use zookeeper_client::{AddWatchMode, Client, Error, PersistentWatcher, SessionState, TlsOptions};

use super::Shared;
use super::registration;
use super::tree::{self, Found, ReadError};
use super::watched::{Watched, Work};
use super::write::{self, Failure};
use crate::registry::{Entry, Key, Link};
use crate::remote::backoff::Backoff;
use crate::remote::{AccessError, Credentials, lose};

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    backoff: Backoff,
    /// What the next publication will say; ahead of the published state while a read is not settled.
    entries: OrdMap<Key, Entry>,
    /// The latest change that any read told of.
    newest: u64,
    /// The ensemble has lost what was read before: its revision is lower, and that is to be told.
    went_back: bool,
}

enum Done {
    Watching(PersistentWatcher),
    /// The draft has every change up to this one, and maybe later ones.
    Read(u64),
}

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("cannot watch the nodes: {0}")]
    Watch(#[from] Error),
    #[error("cannot make the registrations again: {0}")]
    Restore(#[from] Failure),
    #[error("cannot read the nodes: {0}")]
    Read(#[from] ReadError),
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Client(#[from] Error),
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, backoff: Backoff::default(), entries: OrdMap::new(), newest: 0, went_back: false }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        stop.run_until_cancelled(self.keep_sessions()).await;
        // The last copy of the client: its end ends the session.
        shared.set_client(None);
    }

    /// One session after the other, for ever.
    async fn keep_sessions(&mut self) {
        loop {
            match self.begin().await {
                Ok((client, watched)) => {
                    let why = self.follow(&client, watched).await;
                    self.lose(&format!("the session ended: {why}"));
                }
                Err(error) => self.lose(&format!("cannot connect: {error}")),
            }
            self.shared.set_client(None);
            self.backoff.wait().await;
        }
    }

    async fn begin(&mut self) -> Result<(Client, Watched), ConnectError> {
        let settings = &self.shared.settings;
        let credentials = settings.access.read().await?;
        let connector = Client::connector()
            .with_session_timeout(settings.session_timeout)
            // Each server once: how often to try is our own decision.
            .with_fail_eagerly();
        let client = connect(connector, &settings.servers.join(","), credentials).await?;
        write::create_directory(&client, self.shared.root.top(), settings.acl).await?;
        let watcher = self.watch(&client).await?;
        self.shared.registrations.begin_session(client.session_id().0);
        self.shared.set_client(Some(client.clone()));
        Ok((client, Watched::new(watcher)))
    }

    async fn watch(&self, client: &Client) -> Result<PersistentWatcher, Error> {
        client.watch(self.shared.root.top(), AddWatchMode::PersistentRecursive).await
    }

    /// Until the session ends.
    async fn follow(&mut self, client: &Client, mut watched: Watched) -> SessionState {
        loop {
            watched.drain();
            if let Some(ended) = watched.ended {
                return ended;
            }
            if watched.connected_since.is_none() {
                self.lose("the connection broke or fell silent");
                watched.next().await;
                continue;
            }
            let Some(work) = watched.take_work() else {
                watched.next().await;
                continue;
            };
            let outcome = tokio::select! {
                outcome = self.sync(client, work) => outcome,
                () = watched.cut() => continue,
            };
            watched.drain();
            match outcome {
                Ok(Done::Watching(watcher)) => watched.replace(watcher),
                Ok(Done::Read(complete)) => self.settle(complete, &watched),
                Err(error) => {
                    tracing::warn!(%error, "registry not read, the former state stands");
                    watched.read_everything_again();
                    tokio::select! {
                        () = self.backoff.wait() => {}
                        () = watched.cut() => {}
                    }
                }
            }
        }
    }

    async fn sync(&mut self, client: &Client, work: Work) -> Result<Done, SyncError> {
        let root = &self.shared.root;
        match work {
            Work::Watch => Ok(Done::Watching(self.watch(client).await?)),
            Work::Everything => {
                registration::restore(&self.shared, client).await?;
                let started = Instant::now();
                // A new session may be with a server that is behind the one that we read before.
                client.sync(root.top()).await.map_err(ReadError::from)?;
                let found = tree::read_all(client, root).await?;
                self.replace(found, started);
                // Changes made during the read may be half in it; they have events.
                Ok(Done::Read(0))
            }
            Work::Paths(paths) => {
                // Each of these changes had its event, and its path in a batch, by now.
                let complete = self.newest;
                let found = tree::read_some(client, root, paths).await?;
                self.update(found);
                Ok(Done::Read(complete))
            }
        }
    }

    /// Publishes, unless the draft is a whole tree with changes still to be read.
    fn settle(&mut self, complete: u64, watched: &Watched) {
        let Some(since) = watched.connected_since else { return };
        let idle = watched.is_idle();
        self.newest = self.newest.max(watched.newest);
        let revision = if idle { self.newest } else { complete };
        if revision == 0 && !idle {
            return;
        }
        self.backoff.reset();
        let was_connected = self.shared.state.borrow().link.is_connected();
        let entries = self.entries.clone();
        let went_back = std::mem::take(&mut self.went_back);
        self.shared.state.send_modify(|state| {
            state.link = Link::Connected { since };
            state.revision = if went_back { revision } else { state.revision.max(revision) };
            state.ahead = !idle;
            state.entries = entries;
        });
        if !was_connected {
            tracing::info!(entries = self.entries.len(), revision, "registry connected and read");
        }
    }

    /// The old state stands; only the link changes.
    fn lose(&self, why: &str) {
        lose(&self.shared.state, why, self.backoff.is_fresh());
    }

    /// In place, so that what did not change stays shared with the published state.
    fn replace(&mut self, found: Found, started: Instant) {
        self.entries = self.shared.state.borrow().entries.clone();
        let registrations = &self.shared.registrations;
        for key in registrations.keys() {
            let owner = found.nodes.get(&key).and_then(|node| node.as_ref().map(|(_, owner)| *owner));
            registrations.observe(&key, owner);
        }
        let absent = |key: &&Key| !matches!(found.nodes.get(*key), Some(Some(_)));
        let gone: Vec<Key> = self.entries.keys().filter(absent).cloned().collect();
        for key in &gone {
            self.entries.remove(key);
        }
        let (unusable, nodes) = (found.unusable, found.nodes.len());
        if epoch(found.newest) < epoch(self.newest) {
            (self.newest, self.went_back) = (0, true);
        }
        self.apply(found);
        let elapsed = started.elapsed();
        tracing::debug!(nodes, entries = self.entries.len(), unusable, ?elapsed, "registry read");
    }

    fn update(&mut self, found: Found) {
        for (key, node) in &found.nodes {
            let owner = node.as_ref().map(|(_, owner)| *owner);
            self.shared.registrations.observe(key, owner);
        }
        self.apply(found);
    }

    fn apply(&mut self, found: Found) {
        self.newest = self.newest.max(found.newest);
        for (key, node) in found.nodes {
            match node {
                None => _ = self.entries.remove(&key),
                Some((entry, _)) if self.entries.get(&key) == Some(&entry) => {}
                Some((entry, _)) => _ = self.entries.insert(key, entry),
            }
        }
    }
}

/// Which leader a transaction is of: the upper half of its number. Whole ensembles go back to an earlier one only when they
/// have lost what they had; what they have then is counted from there.
fn epoch(zxid: u64) -> u64 {
    zxid >> 32
}

/// With TLS where there is a CA: the client verifies servers by nothing else.
async fn connect(
    mut connector: zookeeper_client::Connector,
    servers: &str,
    credentials: Credentials,
) -> Result<Client, Error> {
    if let Some(user) = credentials.user {
        connector = connector.with_auth("digest", format!("{}:{}", user.name, user.password).as_bytes());
    }
    let Some(ca) = credentials.ca else { return connector.connect(servers).await };
    let mut tls = TlsOptions::new().with_pem_ca(&ca)?;
    if let Some(pem) = credentials.certificate {
        tls = tls.with_pem_identity(&pem, &pem)?;
    }
    connector.with_tls(tls).secure_connect(servers).await
}
