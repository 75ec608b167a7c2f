//! A process among those that came before it: how many, and which of them still drain.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::message::Message;

/// Processes that are watched while they drain. With more the oldest are no longer shown; they drain on.
pub const MAX_DRAINERS: usize = 64;

#[derive(Debug)]
pub struct Lineage {
    pub pid: u32,
    /// 1 for a process that took over from none.
    pub generation: u64,
    /// Whom this process took over from.
    pub predecessor: Option<u32>,
    pub started: SystemTime,
    /// Hand-overs that were begun and not finished, in all generations.
    failed: AtomicU64,
    last_failure: Mutex<Option<String>>,
    draining: Mutex<Vec<Drainer>>,
    /// Something was heard of one of them, or one is gone.
    news: Notify,
}

/// A process that has handed over and is not gone.
#[derive(Debug, Clone)]
pub struct Drainer {
    pub pid: u32,
    pub generation: u64,
    /// As last heard. `None`: nothing was heard yet.
    pub connections: Option<u64>,
    pub(super) channel: Arc<Channel>,
}

impl Default for Lineage {
    fn default() -> Self {
        Self::new(1, None, 0)
    }
}

impl Lineage {
    pub fn new(generation: u64, predecessor: Option<u32>, failed: u64) -> Self {
        Self {
            pid: std::process::id(),
            generation,
            predecessor,
            started: SystemTime::now(),
            failed: AtomicU64::new(failed),
            last_failure: Mutex::default(),
            draining: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Hand-overs that led to this process.
    pub fn completed(&self) -> u64 {
        self.generation.saturating_sub(1)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn record_failure(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// The oldest first.
    pub fn draining(&self) -> Vec<Drainer> {
        self.drainers().clone()
    }

    /// Those that drain write to the same log files, and do not hear of a rotation otherwise.
    pub fn reopen_logs(&self) {
        for drainer in self.drainers().iter() {
            // One that is gone is noticed by its watcher.
            let _ = drainer.channel.try_send(&Message::ReopenLog);
        }
    }

    /// Listens to a process that drains, until it is gone or `cancel`.
    pub fn watch(self: &Arc<Self>, drainer: Drainer, cancel: CancellationToken) -> JoinHandle<()> {
        let (lineage, channel) = (self.clone(), drainer.channel.clone());
        {
            let mut draining = self.drainers();
            let excess = (draining.len() + 1).saturating_sub(MAX_DRAINERS);
            draining.drain(..excess);
            draining.push(drainer);
        }
        tokio::spawn(async move {
            cancel.run_until_cancelled(lineage.listen(&channel)).await;
            lineage.drainers().retain(|one| !Arc::ptr_eq(&one.channel, &channel));
            lineage.news.notify_waiters();
        })
    }

    async fn listen(&self, channel: &Arc<Channel>) {
        while let Ok(message) = channel.receive().await {
            let Message::Draining { connections } = message else { continue };
            let mut draining = self.drainers();
            if let Some(one) = draining.iter_mut().find(|one| Arc::ptr_eq(&one.channel, channel)) {
                one.connections = Some(connections);
                self.news.notify_waiters();
            }
        }
    }

    /// Returns when nothing is awaited from former processes: each has told of its drain, which it does once it has let go of
    /// what only one process may have, or is gone.
    pub async fn all_have_spoken(&self) {
        loop {
            let mut news = pin!(self.news.notified());
            // What comes between the look and the wait is not missed.
            news.as_mut().enable();
            if self.drainers().iter().all(|one| one.connections.is_some()) {
                return;
            }
            news.await;
        }
    }

    fn drainers(&self) -> MutexGuard<'_, Vec<Drainer>> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn drainer(pid: u32) -> (Channel, Drainer) {
        let (one, other) = UnixStream::pair().unwrap();
        let channel = Arc::new(Channel::new(other));
        (Channel::new(one), Drainer { pid, generation: 1, connections: None, channel })
    }

    #[tokio::test]
    async fn what_drains_is_shown_until_it_is_gone() {
        let lineage = Arc::new(Lineage::default());
        let (process, drainer) = drainer(7);
        let watching = lineage.watch(drainer, CancellationToken::new());
        process.send(&Message::Draining { connections: 3 }).await.unwrap();
        while lineage.draining()[0].connections != Some(3) {
            tokio::task::yield_now().await;
        }
        lineage.all_have_spoken().await;
        lineage.reopen_logs();
        assert_eq!(process.receive().await.unwrap(), Message::ReopenLog);
        drop(process);
        watching.await.unwrap();
        assert!(lineage.draining().is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_the_word_of_former_processes_waits_for_all_that_live() {
        let lineage = Arc::new(Lineage::default());
        lineage.all_have_spoken().await;
        let ((one, of_one), (other, of_other)) = (drainer(7), drainer(8));
        let watching = [of_one, of_other].map(|drainer| lineage.watch(drainer, CancellationToken::new()));
        let mut waiting = pin!(lineage.all_have_spoken());
        assert!(futures::poll!(&mut waiting).is_pending());
        one.send(&Message::Draining { connections: 0 }).await.unwrap();
        while lineage.draining()[0].connections.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(futures::poll!(&mut waiting).is_pending(), "the other one has said nothing");
        drop(other);
        waiting.await;
        drop((one, watching));
    }

    #[tokio::test]
    async fn as_many_are_shown_as_are_bounded() {
        let lineage = Arc::new(Lineage::default());
        let mut processes = Vec::new();
        for pid in 0..MAX_DRAINERS as u32 + 3 {
            let (process, drainer) = drainer(pid);
            processes.push(process);
            drop(lineage.watch(drainer, CancellationToken::new()));
        }
        let pids: Vec<_> = lineage.draining().iter().map(|one| one.pid).collect();
        assert_eq!((pids.len(), pids[0]), (MAX_DRAINERS, 3));
    }
}
