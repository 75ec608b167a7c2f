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

use crate::registry::{
    Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State, Step, check_steps, check_value,
};
use store::Store;
use writer::{Change, Order, Part, Wanted, Writer};

/// Orders that may wait for the writer; further writers wait for a place. Four full commits.
const MAX_WAITING: usize = 4 * writer::MAX_BATCH;

/// A handle on the registry in a directory. Its session lasts as long as the process keeps it open:
/// [`Lifetime::Session`] keys of a former process are removed by the next open.
///
/// Dropping it waits for the commit in progress, so that the directory can be opened again at once.
pub struct Embedded {
    state: watch::Receiver<State>,
    /// `None` only while dropping.
    orders: Option<mpsc::Sender<Order>>,
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
            ahead: false,
            entries: contents.entries,
        });
        let (orders, waiting) = mpsc::channel(MAX_WAITING);
        let writer = Writer::new(dir.to_owned(), store, waiting, publish);
        let thread = std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| RegistryError::Failed {
                doing: "start the registry's thread".to_owned(),
                may_have_happened: false,
                source: Box::new(error),
            })?;
        Ok(Arc::new(Self { state, orders: Some(orders), thread: Some(thread) }))
    }

    /// Closes the file, so that another process can open it, once what was asked before is done. Ends the
    /// session: its [`Lifetime::Session`] keys go with the next open. Watchers keep the entries as they
    /// are, with a link that is lost; writers are refused.
    ///
    /// # Errors
    /// [`RegistryError::Failed`] when the registry's thread has stopped.
    pub async fn release(&self) -> Result<(), RegistryError> {
        let (reply, done) = oneshot::channel();
        self.order(Order::Release(reply)).await.map_err(|()| stopped("close the registry", false))?;
        done.await.map_err(|_| stopped("close the registry", true))
    }

    /// Opens the file again after a [`Self::release`]: a new session, which sees what was written meanwhile.
    /// Nothing to do where it is open.
    ///
    /// # Errors
    /// As [`Self::open`]; it may be tried again.
    pub async fn reopen(&self) -> Result<(), RegistryError> {
        let (reply, done) = oneshot::channel();
        self.order(Order::Reopen(reply)).await.map_err(|()| stopped("open the registry again", false))?;
        done.await.map_err(|_| stopped("open the registry again", true))?
    }

    async fn order(&self, order: Order) -> Result<(), ()> {
        self.orders.as_ref().ok_or(())?.send(order).await.map_err(drop)
    }

    async fn change(&self, parts: Vec<Part>) -> Result<u64, RegistryError> {
        let (reply, answer) = oneshot::channel();
        let change = Change { parts, reply };
        let doing = format!("change {}", change.names());
        self.order(Order::Change(change)).await.map_err(|()| stopped(&*doing, false))?;
        answer.await.map_err(|_| stopped(&*doing, true))?
    }
}

fn stopped(doing: impl Into<String>, may_have_happened: bool) -> RegistryError {
    let source = "the registry's thread has stopped".into();
    RegistryError::Failed { doing: doing.into(), may_have_happened, source }
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
        let wanted = Wanted::Present { value, ephemeral };
        self.change(vec![Part { key: key.clone(), wanted, expect }]).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
        self.change(vec![Part { key: key.clone(), wanted: Wanted::Absent, expect }]).await.map(|_| ())
    }

    async fn transact(&self, steps: &[Step]) -> Result<u64, RegistryError> {
        check_steps(steps)?;
        if steps.is_empty() {
            return Ok(self.state.borrow().revision);
        }
        let part = |step: &Step| {
            let present = |value| Wanted::Present { value, ephemeral: false };
            let wanted = step.value.clone().map_or(Wanted::Absent, present);
            Part { key: step.key.clone(), wanted, expect: step.expect }
        };
        self.change(steps.iter().map(part).collect()).await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }
}
