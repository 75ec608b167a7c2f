//! The thread that owns the file: what waits is applied in order and committed together. It can let go of
//! the file for another process, and take it back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::store::{Row, Store};
use crate::registry::{Entry, Expect, Key, Link, RegistryError, State};

/// Changes in one commit. Enough that the flush is a small part of each change's cost; a watcher waits for
/// no more than these before it sees the first.
pub(super) const MAX_BATCH: usize = 256;

/// Why a registry that was let go of is out of reach.
const RELEASED: &str = "it was handed over to another process";

/// What the thread is asked to do, in the order of asking.
pub(super) enum Order {
    Change(Change),
    /// Close the file; answered when another process can open it.
    Release(oneshot::Sender<()>),
    /// Open it again, unless it is open.
    Reopen(oneshot::Sender<Result<(), RegistryError>>),
}

pub(super) struct Change {
    /// At least one; of distinct keys.
    pub(super) parts: Vec<Part>,
    /// The keys' new version, or the revision in which they are absent.
    pub(super) reply: oneshot::Sender<Result<u64, RegistryError>>,
}

pub(super) struct Part {
    pub(super) key: Key,
    pub(super) wanted: Wanted,
    pub(super) expect: Expect,
}

impl Change {
    /// For messages.
    pub(super) fn names(&self) -> String {
        match &*self.parts {
            [] => "nothing".to_owned(),
            [only] => only.key.to_string(),
            [first, others @ ..] => format!("{} and {} more", first.key, others.len()),
        }
    }
}

pub(super) enum Wanted {
    Present { value: Bytes, ephemeral: bool },
    Absent,
}

pub(super) struct Writer {
    dir: PathBuf,
    /// `None` while another process may have the file.
    store: Option<Store>,
    waiting: mpsc::Receiver<Order>,
    publish: watch::Sender<State>,
    revision: u64,
    entries: OrdMap<Key, Entry>,
}

/// The state that a commit in preparation leads to.
struct Draft {
    revision: u64,
    entries: OrdMap<Key, Entry>,
    rows: Vec<Row>,
}

impl Writer {
    pub(super) fn new(
        dir: PathBuf,
        store: Store,
        waiting: mpsc::Receiver<Order>,
        publish: watch::Sender<State>,
    ) -> Self {
        let (revision, entries) = {
            let state = publish.borrow();
            (state.revision, state.entries.clone())
        };
        Self { dir, store: Some(store), waiting, publish, revision, entries }
    }

    /// Until the last handle is gone and what it sent is done.
    pub(super) fn run(mut self) {
        let mut orders = Vec::with_capacity(MAX_BATCH);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.waiting.blocking_recv_many(&mut orders, MAX_BATCH) > 0 {
            for order in orders.drain(..) {
                match order {
                    Order::Change(change) => batch.push(change),
                    Order::Release(reply) => {
                        self.commit(std::mem::take(&mut batch));
                        self.release();
                        let _ = reply.send(());
                    }
                    Order::Reopen(reply) => {
                        self.commit(std::mem::take(&mut batch));
                        let _ = reply.send(self.reopen());
                    }
                }
            }
            self.commit(std::mem::take(&mut batch));
        }
    }

    /// The entries stand as they are for whoever watches; nothing is written any more.
    fn release(&mut self) {
        if self.store.take().is_some() {
            self.publish.send_modify(|state| {
                state.link = Link::Lost { since: Instant::now(), why: RELEASED.into() };
            });
        }
    }

    fn reopen(&mut self) -> Result<(), RegistryError> {
        if self.store.is_some() {
            return Ok(());
        }
        let (store, contents) = Store::open(&self.dir)?;
        self.store = Some(store);
        self.revision = contents.revision;
        self.entries = contents.entries;
        self.publish.send_modify(|state| {
            state.link = Link::Connected { since: Instant::now() };
            state.revision = self.revision;
            state.entries = self.entries.clone();
        });
        Ok(())
    }

    fn commit(&mut self, batch: Vec<Change>) {
        let Some(store) = &self.store else { return refuse(batch) };
        let mut draft = Draft { revision: self.revision, entries: self.entries.clone(), rows: Vec::new() };
        let results: Vec<_> = batch.iter().map(|change| draft.apply(change)).collect();
        let outcome = if draft.rows.is_empty() { Ok(()) } else { store.commit(draft.revision, &draft.rows) };
        match outcome {
            Ok(()) => {
                self.accept(draft);
                for (change, result) in batch.into_iter().zip(results) {
                    // The caller may have gone; the change stands all the same.
                    let _ = change.reply.send(result);
                }
            }
            Err(error) => self.fail(batch, error),
        }
    }

    /// Publishes before anybody is answered: whoever was answered finds the change in the state.
    fn accept(&mut self, draft: Draft) {
        self.revision = draft.revision;
        self.entries = draft.entries;
        self.publish.send_if_modified(|state| {
            let changed = state.revision != self.revision || !state.link.is_connected();
            if !state.link.is_connected() {
                state.link = Link::Connected { since: Instant::now() };
            }
            state.revision = self.revision;
            state.entries = self.entries.clone();
            changed
        });
    }

    /// The disk refused. A part of the commit may still be found on disk by the next open.
    fn fail(&self, batch: Vec<Change>, error: redb::Error) {
        tracing::error!(%error, "the registry cannot be written");
        let error = Arc::new(error);
        let why: Arc<str> = format!("cannot be written: {error}").into();
        self.publish.send_modify(|state| {
            if state.link.is_connected() {
                state.link = Link::Lost { since: Instant::now(), why };
            }
        });
        for change in batch {
            let failure = RegistryError::Failed {
                doing: format!("change {}", change.names()),
                may_have_happened: true,
                source: Box::new(Arc::clone(&error)),
            };
            let _ = change.reply.send(Err(failure));
        }
    }
}

/// Nobody's change can happen while another process has the file.
fn refuse(batch: Vec<Change>) {
    for change in batch {
        let failure = RegistryError::Failed {
            doing: format!("change {}", change.names()),
            may_have_happened: false,
            source: RELEASED.into(),
        };
        let _ = change.reply.send(Err(failure));
    }
}

impl Draft {
    /// All parts in one revision, or nothing.
    fn apply(&mut self, change: &Change) -> Result<u64, RegistryError> {
        for Part { key, expect, .. } in &change.parts {
            if !expect.admits(self.entries.get(key).map(|entry| entry.version)) {
                return Err(RegistryError::Conflict { key: key.clone(), expected: *expect });
            }
        }
        let revision = self.revision + 1;
        let mut has_changed = false;
        for Part { key, wanted, .. } in &change.parts {
            let created = self.entries.get(key).map(|entry| entry.created);
            let row = match wanted {
                Wanted::Present { value, ephemeral } => Some(Entry {
                    value: value.clone(),
                    version: revision,
                    created: created.unwrap_or(revision),
                    ephemeral: *ephemeral,
                }),
                Wanted::Absent if created.is_some() => None,
                Wanted::Absent => continue,
            };
            match &row {
                Some(entry) => drop(self.entries.insert(key.clone(), entry.clone())),
                None => drop(self.entries.remove(key)),
            }
            self.rows.push((key.clone(), row));
            has_changed = true;
        }
        if has_changed {
            self.revision = revision;
        }
        Ok(self.revision)
    }
}
