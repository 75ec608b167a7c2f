//! The listeners that one worker accepts on: opened, changed and closed while it runs, each without the
//! others.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::accept::{self, Door};
use crate::listener::{Bound, ListenerId, Speaks};
use crate::metrics::ListenerShare;
use crate::worker::Worker;
use crate::worker::tunnels::Order;

/// What the control plane tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on one more.
    Open(Bound),
    /// Serve connections to come in another way; those that are open go on as they began.
    Change { id: ListenerId, speaks: Speaks, cells: ListenerShare },
    /// List tunnels, or close them.
    Tunnels(Order),
    /// Accept no more. What is open finishes what it is doing, within `drain`.
    Close { id: ListenerId, drain: Duration },
    /// Say that all commands before this one were carried out, or that a socket could not be opened.
    Confirm(oneshot::Sender<bool>),
    /// Have every connection look at whether it may go on.
    Wake,
}

pub struct Doors {
    worker: Rc<Worker>,
    /// Connections at a time, over all of them.
    most: usize,
    /// A listener whose sockets were inherited can have several.
    doors: Vec<Entry>,
    has_failed: bool,
}

struct Entry {
    door: Rc<Door>,
    accepting: JoinHandle<()>,
    /// Of a closed one: when what is left is cut.
    until: Option<Instant>,
}

impl Doors {
    pub fn new(worker: Rc<Worker>, most: usize) -> Self {
        Self { worker, most, doors: Vec::new(), has_failed: false }
    }

    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Open(bound) => {
                let opened = accept::open(self.worker.clone(), bound, self.most);
                self.has_failed |= opened.is_none();
                self.doors.extend(opened.map(|(door, accepting)| Entry { door, accepting, until: None }));
            }
            Command::Change { id, speaks, cells } => {
                self.each(id, |entry| entry.door.change(speaks.clone(), cells.clone()));
            }
            Command::Close { id, drain } => self.each(id, |entry| {
                entry.until = Some(Instant::now() + drain);
                entry.door.close();
            }),
            Command::Tunnels(order) => self.worker.tunnels.obey(order),
            // Who asked may have given up.
            Command::Confirm(reply) => drop(reply.send(!self.has_failed)),
            Command::Wake => self.worker.deadlines.wake_all(),
        }
    }

    /// None where the runtime did not take its socket, which was logged.
    fn each(&mut self, id: ListenerId, act: impl FnMut(&mut Entry)) {
        self.doors.iter_mut().filter(|entry| entry.door.id == id).for_each(act);
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
