//! Whether connections are to end, and how fast: because their listener was removed, or because the
//! whole worker ends.

use std::cell::Cell;
use std::rc::Rc;

use super::Worker;

/// What one listener's connections on one worker look at. All of them share it, whichever settings of
/// the listener they began with.
#[derive(Debug)]
pub struct Ending {
    worker: Rc<Worker>,
    stage: Cell<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Draining,
    Aborting,
}

impl Ending {
    pub fn new(worker: Rc<Worker>) -> Self {
        Self { worker, stage: Cell::new(Stage::Open) }
    }

    /// Finish what is under way, keep nothing alive.
    pub fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining || self.worker.is_draining()
    }

    /// What is left is being cut.
    pub fn is_aborting(&self) -> bool {
        self.stage.get() >= Stage::Aborting || self.worker.is_aborting()
    }

    /// The listener was removed. Who waits has to be woken to learn of it.
    pub fn drain(&self) {
        self.stage.set(self.stage.get().max(Stage::Draining));
    }

    /// Its connections have had their time.
    pub fn abort(&self) {
        self.stage.set(Stage::Aborting);
    }
}
