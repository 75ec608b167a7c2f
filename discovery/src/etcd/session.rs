//! The task that keeps a session and, through it, the published state.
//!
//! Within a connection, everything is read at one revision and watched from the next one on, so nothing is
//! missed and nothing published that never was. Where that chain breaks (the history that a watch needs was
//! compacted, an answer is too large, the connection ends) everything is read again and compared: also a
//! cluster that was restored from a backup, whose revisions mean something else, is then seen as it is.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use imbl::OrdMap;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::connection::{ConnectError, Connection, Keeper};
use super::read::{self, Found, ReadError, Snapshot, unsigned};
use super::registration;
use super::watch::{Told, Watch, WatchError};
use super::write::Failure;
use crate::registry::{Entry, Key, Link};
use crate::remote::backoff::Backoff;
use crate::remote::{MAX_KEYS, lose};

/// Answers of a watch that are published together, where they have come already.
const MAX_BATCH: usize = 1_000;

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    backoff: Backoff,
    /// Of the servers, the one to ask next.
    turn: usize,
    /// The last lease that the servers granted us.
    lease: Option<i64>,
    /// What the next publication will say.
    entries: OrdMap<Key, Entry>,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("cannot make the registrations again: {0}")]
    Restore(#[from] Failure),
    #[error("cannot read the keys: {0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("there are more than {MAX_KEYS} keys below the prefix")]
    TooManyKeys,
    #[error("cannot ask for the lease: {0}")]
    Ask(#[from] ConnectError),
    #[error("the lease is gone, and with it what it held")]
    NoLease,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Somewhere, so that the fleet is spread over the servers.
        let turn = RandomState::new().hash_one(0) as usize % shared.settings.servers.len().max(1);
        Self { shared, backoff: Backoff::default(), turn, lease: None, entries: OrdMap::new() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        // The client's requests are kilobytes each.
        stop.run_until_cancelled(Box::pin(self.keep_sessions())).await;
        let connection = self.shared.connection();
        self.shared.set_connection(None);
        if let Ok(connection) = connection {
            connection.end(self.shared.settings.session_timeout).await;
        }
    }

    /// One connection after the other, for ever.
    async fn keep_sessions(&mut self) {
        loop {
            let server = self.next_server();
            let why = match self.begin(&server).await {
                Ok((connection, keeper)) => {
                    let why = tokio::select! {
                        why = keeper.keep() => why.to_string(),
                        why = self.follow(connection) => why.to_string(),
                    };
                    format!("{server}: {why}")
                }
                Err(error) => format!("cannot connect to {server}: {error}"),
            };
            self.shared.set_connection(None);
            lose(&self.shared.state, &why, self.backoff.is_fresh());
            self.backoff.wait().await;
        }
    }

    fn next_server(&mut self) -> String {
        let servers = &self.shared.settings.servers;
        self.turn = (self.turn + 1) % servers.len().max(1);
        servers.get(self.turn).cloned().unwrap_or_default()
    }

    async fn begin(&mut self, server: &str) -> Result<(Connection, Keeper), ConnectError> {
        let (connection, keeper) = Connection::open(server, &self.shared.settings, self.lease).await?;
        self.lease = Some(connection.lease);
        self.shared.registrations.begin_session(connection.lease);
        self.shared.set_connection(Some(connection.clone()));
        Ok((connection, keeper))
    }

    /// Until the connection is of no more use.
    async fn follow(&mut self, mut connection: Connection) -> Broken {
        let since = Instant::now();
        loop {
            if let Err(broken) = self.follow_once(&mut connection, since).await {
                return broken;
            }
        }
    }

    /// Until the watch falls behind.
    async fn follow_once(&mut self, connection: &mut Connection, since: Instant) -> Result<(), Broken> {
        let limit = self.shared.settings.session_timeout;
        registration::restore(&self.shared, connection).await?;
        let started = Instant::now();
        let snapshot = read::read_all(&mut connection.kv, &self.shared.root, limit).await?;
        let revision = snapshot.revision;
        let absent = |key: &Key| !snapshot.keys.contains_key(key);
        let missed = self.shared.registrations.keys().iter().any(|key| absent(key) && self.is_ours(key));
        self.verify_lease(connection, missed).await?;
        self.replace(snapshot, started.elapsed());
        let from = revision.saturating_add(1);
        let mut watch = Watch::begin(&mut connection.watches, &self.shared.root, from, limit).await?;
        self.backoff.reset();
        self.publish(since, |_| unsigned(revision));
        loop {
            let mut told = watch.next(&self.shared.root).await?;
            let mut newest = revision;
            for more in (0..MAX_BATCH).rev() {
                match told {
                    Told::Changes { revision, changes } => {
                        newest = newest.max(revision);
                        let missed = changes.iter().any(|(key, found)| found.is_none() && self.is_ours(key));
                        self.verify_lease(connection, missed).await?;
                        self.update(changes);
                    }
                    Told::Behind(why) => {
                        tracing::info!(why, "the registry's watch fell behind, everything is read again");
                        return Ok(());
                    }
                }
                if more == 0 {
                    break;
                }
                match watch.next(&self.shared.root).now_or_never() {
                    Some(next) => told = next?,
                    None => break,
                }
            }
            if self.entries.len() > MAX_KEYS {
                return Err(Broken::TooManyKeys);
            }
            self.publish(since, |before| before.max(unsigned(newest)));
        }
    }

    fn is_ours(&self, key: &Key) -> bool {
        self.shared.registrations.would_give_up(key)
    }

    /// What we registered is gone: with our lease, of which we are still to hear, or because somebody
    /// removed it. A lease that is there now has not expired before.
    async fn verify_lease(&self, connection: &mut Connection, missed: bool) -> Result<(), Broken> {
        if missed && !connection.is_leased(self.shared.settings.session_timeout).await? {
            return Err(Broken::NoLease);
        }
        Ok(())
    }

    /// A read of everything may find that the cluster went back; a watch only goes on.
    fn publish(&self, since: Instant, revision: impl FnOnce(u64) -> u64) {
        let was_connected = self.shared.state.borrow().link.is_connected();
        let entries = self.entries.clone();
        self.shared.state.send_modify(|state| {
            state.link = Link::Connected { since };
            state.revision = revision(state.revision);
            state.entries = entries;
        });
        if !was_connected {
            let revision = self.shared.state.borrow().revision;
            tracing::info!(entries = self.entries.len(), revision, "registry connected and read");
        }
    }

    /// In place, so that what did not change stays shared with the published state.
    fn replace(&mut self, snapshot: Snapshot, elapsed: Duration) {
        self.entries = self.shared.state.borrow().entries.clone();
        let registrations = &self.shared.registrations;
        for key in registrations.keys() {
            registrations.observe(&key, snapshot.keys.get(&key).map(|found| found.lease));
        }
        let absent = |key: &&Key| !snapshot.keys.contains_key(*key);
        let gone: Vec<Key> = self.entries.keys().filter(absent).cloned().collect();
        for key in &gone {
            self.entries.remove(key);
        }
        let unusable = snapshot.unusable;
        for (key, found) in snapshot.keys {
            self.put(key, found.entry);
        }
        tracing::debug!(entries = self.entries.len(), unusable, ?elapsed, "registry read");
    }

    fn update(&mut self, changes: Vec<(Key, Option<Found>)>) {
        for (key, found) in changes {
            self.shared.registrations.observe(&key, found.as_ref().map(|found| found.lease));
            match found {
                Some(found) => self.put(key, found.entry),
                None => _ = self.entries.remove(&key),
            }
        }
    }

    fn put(&mut self, key: Key, entry: Entry) {
        if self.entries.get(&key) != Some(&entry) {
            self.entries.insert(key, entry);
        }
    }
}
