//! The listeners that one worker accepts on: opened, changed and closed while it runs, each without the
//! others.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::accept::{self, Door};
use crate::listener::{Bound, ListenerId, Speaks};
use crate::metrics::ListenerShare;
use crate::worker::Worker;

/// What the control plane tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on one more.
    Open(Bound),
    /// Serve connections to come in another way; those that are open go on as they began.
    Change { id: ListenerId, speaks: Speaks, cells: ListenerShare },
    /// Accept no more. What is open finishes what it is doing, within `drain`.
    Close { id: ListenerId, drain: Duration },
}

pub struct Doors {
    worker: Rc<Worker>,
    /// Connections at a time, over all of them.
    most: usize,
    doors: Vec<Entry>,
}

struct Entry {
    door: Rc<Door>,
    accepting: JoinHandle<()>,
    /// Of a closed one: when what is left is cut.
    until: Option<Instant>,
}

impl Doors {
    pub fn new(worker: Rc<Worker>, most: usize) -> Self {
        Self { worker, most, doors: Vec::new() }
    }

    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Open(bound) => {
                let opened = accept::open(self.worker.clone(), bound, self.most);
                self.doors.extend(opened.map(|(door, accepting)| Entry { door, accepting, until: None }));
            }
            Command::Change { id, speaks, cells } => {
                if let Some(entry) = self.find(id) {
                    entry.door.change(speaks, cells);
                }
            }
            Command::Close { id, drain } => {
                if let Some(entry) = self.find(id) {
                    entry.until = Some(Instant::now() + drain);
                    entry.door.close();
                }
            }
        }
    }

    /// Absent only where the runtime did not take its socket, which was logged.
    fn find(&mut self, id: ListenerId) -> Option<&mut Entry> {
        self.doors.iter_mut().find(|entry| entry.door.id == id)
    }

    /// Forgets closed listeners that have no connection left, and cuts those whose time is over.
    pub fn sweep(&mut self) {
        let now = Instant::now();
        self.doors.retain(|entry| {
            let Some(until) = entry.until else { return true };
            if entry.accepting.is_finished() && entry.door.open_connections() == 0 {
                return false;
            }
            if now >= until {
                entry.door.cut();
            }
            true
        });
    }

    /// Whether nothing is accepted any more.
    pub fn are_closed(&self) -> bool {
        self.doors.iter().all(|entry| entry.accepting.is_finished())
    }
}
