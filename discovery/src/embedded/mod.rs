//! The registry of one machine: a database file that one process has open.
//!
//! One thread owns the file and applies changes in the order in which they arrive. Those that wait
//! while it commits go into one commit together, so many writers share the price of a flush. A change is
//! acknowledged once it is on disk; the state in memory is then what the disk says, so reads never
//! touch the file.

mod store;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::registry::{Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State, check_value};
use store::Store;
use writer::{Change, Wanted, Writer};

/// Changes that may wait for the writer; further writers wait for a place. Four full commits.
const MAX_WAITING: usize = 4 * writer::MAX_BATCH;

/// A handle on the registry in a directory. Its session lasts as long as the process keeps it open:
/// [`Lifetime::Session`] keys of a former process are removed by the next open.
///
/// Dropping it waits for the commit in progress, so that the directory can be opened again at once.
pub struct Embedded {
    state: watch::Receiver<State>,
    /// `None` only while dropping.
    changes: Option<mpsc::Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the registry in `dir`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`RegistryError::InUse`] when a process, this one included, has it open;
    /// [`RegistryError::Failed`] when the file cannot be read or is none of ours.
    pub fn open(dir: &Path) -> Result<Arc<Self>, RegistryError> {
        let (store, contents) = Store::open(dir)?;
        let (publish, state) = watch::channel(State {
            link: Link::Connected { since: Instant::now() },
            revision: contents.revision,
            entries: contents.entries,
        });
        let (changes, waiting) = mpsc::channel(MAX_WAITING);
        let writer = Writer::new(store, waiting, publish);
        let thread = std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| RegistryError::Failed {
                doing: "start the registry's thread".to_owned(),
                may_have_happened: false,
                source: Box::new(error),
            })?;
        Ok(Arc::new(Self { state, changes: Some(changes), thread: Some(thread) }))
    }

    async fn change(&self, key: &Key, wanted: Wanted, expect: Expect) -> Result<u64, RegistryError> {
        let (reply, answer) = oneshot::channel();
        let change = Change { key: key.clone(), wanted, expect, reply };
        let stopped = |may_have_happened| RegistryError::Failed {
            doing: format!("change {key}"),
            may_have_happened,
            source: "the registry's thread has stopped".into(),
        };
        let changes = self.changes.as_ref().ok_or_else(|| stopped(false))?;
        changes.send(change).await.map_err(|_| stopped(false))?;
        answer.await.map_err(|_| stopped(true))?
    }
}

#[async_trait]
impl Registry for Embedded {
    fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, RegistryError> {
        // The state is published before a change is acknowledged, and nobody else writes the file.
        Ok(self.state.borrow().entries.get(key).cloned())
    }

    async fn write(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, RegistryError> {
        check_value(key, &value)?;
        let ephemeral = lifetime == Lifetime::Session;
        self.change(key, Wanted::Present { value, ephemeral }, expect).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
        self.change(key, Wanted::Absent, expect).await.map(|_| ())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }
}
