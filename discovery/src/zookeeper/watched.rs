//! What a session's watch has told, until somebody reads it.

use std::collections::HashSet;
use std::time::Instant;

use futures::FutureExt;
use zookeeper_client::{EventType, PersistentWatcher, SessionState, WatchedEvent};

use super::node::unsigned;

/// More changed paths than this are cheaper read as a whole tree, and need no memory for their names.
const MAX_DIRTY: usize = 20_000;

/// What the session's watch has told and nobody has read yet.
pub(super) struct Watched {
    watcher: PersistentWatcher,
    pub(super) connected_since: Option<Instant>,
    pub(super) ended: Option<SessionState>,
    /// The watch is set on the present connection.
    set: bool,
    everything: bool,
    dirty: HashSet<String>,
    pub(super) newest: u64,
}

/// What to do next, the most urgent first.
pub(super) enum Work {
    Watch,
    Everything,
    Paths(HashSet<String>),
}

impl Watched {
    pub(super) fn new(watcher: PersistentWatcher) -> Self {
        Self {
            watcher,
            connected_since: Some(Instant::now()),
            ended: None,
            set: true,
            everything: true,
            dirty: HashSet::new(),
            newest: 0,
        }
    }

    /// The former one goes after the new one has come, so that the client does not tell the servers that
    /// nobody watches.
    pub(super) fn replace(&mut self, watcher: PersistentWatcher) {
        self.watcher = watcher;
        self.set = true;
    }

    /// Waits for an event and takes those that came with it.
    pub(super) async fn next(&mut self) {
        let event = self.watcher.changed().await;
        self.note(event);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        // The watcher panics when it is asked after the session's end.
        while self.ended.is_none()
            && let Some(event) = self.watcher.changed().now_or_never()
        {
            self.note(event);
        }
    }

    /// Until the connection is lost, also if it is back already: requests of before have failed.
    pub(super) async fn cut(&mut self) {
        let since = self.connected_since;
        while self.ended.is_none() && self.connected_since == since {
            self.next().await;
        }
    }

    fn note(&mut self, event: WatchedEvent) {
        if event.event_type != EventType::Session {
            self.newest = self.newest.max(unsigned(event.zxid));
            if !self.everything {
                self.dirty.insert(event.path);
            }
        } else if event.session_state.is_terminated() {
            self.ended = Some(event.session_state);
        } else {
            let connected = event.session_state == SessionState::SyncConnected;
            self.connected_since = connected.then(Instant::now);
            self.set = false;
            self.everything = true;
        }
        if self.dirty.len() > MAX_DIRTY {
            self.everything = true;
        }
        if self.everything {
            self.dirty.clear();
        }
    }

    pub(super) fn read_everything_again(&mut self) {
        self.everything = true;
        self.dirty.clear();
    }

    /// Nothing is waiting to be read.
    pub(super) fn is_idle(&self) -> bool {
        self.set && !self.everything && self.dirty.is_empty()
    }

    pub(super) fn take_work(&mut self) -> Option<Work> {
        if !self.set {
            return Some(Work::Watch);
        }
        if std::mem::take(&mut self.everything) {
            return Some(Work::Everything);
        }
        (!self.dirty.is_empty()).then(|| Work::Paths(std::mem::take(&mut self.dirty)))
    }
}
