//! Whether connections are to end, and how fast: because their listener was removed, or because the
//! whole worker ends.

use std::cell::Cell;
use std::rc::Rc;

use super::{Deadline, Worker};

/// What one listener's connections on one worker look at. All of them share it, whichever settings of
/// the listener they began with.
#[derive(Debug)]
pub struct Ending {
    worker: Rc<Worker>,
    /// Of their deadlines.
    group: u32,
    stage: Cell<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Draining,
    Aborting,
}

impl Ending {
    /// `group` is the listener's own, and not 0.
    pub fn new(worker: Rc<Worker>, group: u32) -> Self {
        Self { worker, group, stage: Cell::new(Stage::Open) }
    }

    /// Finish what is under way, keep nothing alive.
    pub fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining || self.worker.is_draining()
    }

    /// Whether connections that wait for a request close. Where nobody waits for the drain they stay for
    /// their usual time instead: a request may be on its way, and closing would lose it.
    pub fn closes_idle(&self) -> bool {
        self.is_draining() && !self.worker.has_handed_over()
    }

    /// What is left is being cut.
    pub fn is_aborting(&self) -> bool {
        self.stage.get() >= Stage::Aborting || self.worker.is_aborting()
    }

    /// For the task that awaits this, one of those that serve a connection of this listener.
    pub async fn deadline(&self) -> Deadline {
        let deadline = Deadline::claim(self.worker.deadlines.clone()).await;
        deadline.join(self.group);
        deadline
    }

    /// The listener was removed: wakes its connections, so that they see it.
    pub fn drain(&self) {
        self.stage.set(self.stage.get().max(Stage::Draining));
        self.worker.deadlines.wake_group(self.group);
    }

    /// Its connections have had their time: ends every wait, once.
    pub fn abort(&self) {
        self.stage.set(Stage::Aborting);
        self.worker.deadlines.expire_group(self.group);
    }
}
