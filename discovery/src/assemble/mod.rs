//! From sources to snapshots: what the registry says and what the files say become
//! [`topology::Snapshot`]s, one per change that changed something.
//!
//! A change costs what it changes: states are compared with their predecessors along shared structure,
//! only the keys that differ are parsed, only their apps put together anew. Rules:
//!
//! - A bad value changes nothing but leaves a rejection: the key keeps its last good value, if it had one.
//! - An app exists while it has a spec or an endpoint; without a spec it has [`topology::AppSpec::implied`].
//! - For an app in a file and in the registry the file's spec holds, and the registry's is reported as
//!   shadowed. Endpoints of both serve; of two with one version and instance, the file's.
//! - What the registry says is believed as far as [`crate::doubt`] believes it; a start without a registry begins
//!   with what a former run had [saved](crate::saved).
//! - The outcome depends on the keys as they stand and their last good values, not on the order of
//!   events, so that all gateways agree.

mod assembler;
mod registered;
mod saver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::Snapshot;

use crate::doubt::{Report, Skeptic, Witness};
use crate::file::{FileSource, FileState};
use crate::registry::{Registry, State};
use crate::saved::{Saved, SavedFile};
use crate::secrets::Keys;
use assembler::{Assembler, Outcome};
use saver::Saver;

/// How often it is looked whether what is held back still serves.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How the registry's word is taken.
#[derive(Debug, Default)]
pub struct Belief {
    /// Open the specs that are sealed.
    pub keys: Option<Keys>,
    /// How long what vanished in a mass loss stays; zero: not at all.
    pub grace: Duration,
    /// Where the last good entries are kept for a start without the registry; `None`: nowhere.
    pub saved: Option<SavedFile>,
}

/// The path from sources to snapshots.
#[derive(Debug)]
pub struct Discovery {
    pub snapshots: watch::Receiver<Snapshot>,
    /// What is served otherwise than the registry says.
    pub doubts: watch::Receiver<Report>,
    accepted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Discovery {
    /// Assembles snapshots until `cancel` is cancelled; then it stops `files` and ends. The receiver
    /// holds what the files and the registry's state said at the call; it is not marked as unseen.
    /// While the registry is out of reach its last entries stand.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(
        registry: Arc<dyn Registry>,
        files: FileSource,
        belief: Belief,
        witness: Arc<dyn Witness>,
        cancel: CancellationToken,
    ) -> Self {
        let mut inputs = Inputs { states: registry.watch(), files: files.watch() };
        let last_good = belief.saved.as_ref().and_then(saver::load);
        let known = last_good.clone().map(|saved| (saved.revision, saved.entries));
        let mut path = Path {
            skeptic: Skeptic::new(belief.grace, known),
            assembler: Assembler::new(belief.keys),
            witness,
            saver: belief.saved.map(|file| Saver::start(file, last_good.clone())),
        };
        let (state, filed) = (inputs.take_state(), inputs.take_files());
        if let Some(Saved { revision, entries }) = last_good {
            // What is bad in the registry by now keeps the value that a former run saw good.
            let state = State { link: state.link.clone(), revision, ahead: false, entries };
            path.assembler.apply(&state, &filed, false);
        }
        path.step(&state, &filed);
        let (publish, snapshots) = watch::channel(path.assembler.snapshot().clone());
        let (report, doubts) = watch::channel(path.skeptic.report());
        let accepted = Arc::new(Notify::new());
        let outlets = Outlets { publish, report, accepted: accepted.clone() };
        let task = tokio::spawn(async move {
            run(inputs, path, outlets, cancel).await;
            files.stop().await;
            // The registry's session lasts as long as what is assembled from it.
            drop(registry);
        });
        Self { snapshots, doubts, accepted, task }
    }

    /// What an operator calls who says that the registry is right as it is.
    pub fn acceptance(&self) -> Arc<Notify> {
        self.accepted.clone()
    }

    /// Ends when the path has.
    pub fn into_task(self) -> JoinHandle<()> {
        self.task
    }
}

/// From what the sources say to what is served.
struct Path {
    skeptic: Skeptic,
    assembler: Assembler,
    witness: Arc<dyn Witness>,
    saver: Option<Saver>,
}

impl Path {
    fn step(&mut self, state: &State, files: &FileState) -> Outcome {
        let believed = self.skeptic.hear(state, Instant::now(), &*self.witness);
        let was_doubted = self.skeptic.was_doubted();
        let outcome = self.assembler.apply(&believed, files, was_doubted);
        if let Some(saver) = &self.saver
            && state.link.is_connected()
        {
            saver.remember(&believed, was_doubted, |key| self.assembler.rejects(key));
            if was_doubted && self.skeptic.report().doubt.is_none() {
                // The next process must not doubt again what was accepted.
                saver.hurry();
            }
        }
        outcome
    }

    /// When something is to be done although nobody says anything new.
    async fn due(&self) {
        match self.skeptic.is_waiting() {
            true => tokio::time::sleep(LOOK_AGAIN).await,
            false => std::future::pending().await,
        }
    }
}

struct Outlets {
    publish: watch::Sender<Snapshot>,
    report: watch::Sender<Report>,
    accepted: Arc<Notify>,
}

struct Inputs {
    states: watch::Receiver<State>,
    files: watch::Receiver<FileState>,
}

impl Inputs {
    fn take_state(&mut self) -> State {
        self.states.borrow_and_update().clone()
    }

    fn take_files(&mut self) -> FileState {
        self.files.borrow_and_update().clone()
    }

    /// Waits for news of either. A source that has ended has none.
    async fn changed(&mut self) {
        async fn news<T>(source: &mut watch::Receiver<T>) {
            if source.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        tokio::select! {
            () = news(&mut self.states) => {}
            () = news(&mut self.files) => {}
        }
    }
}

async fn run(mut inputs: Inputs, mut path: Path, outlets: Outlets, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            () = inputs.changed() => {}
            () = outlets.accepted.notified() => path.skeptic.accept(),
            () = path.due() => {}
        }
        let outcome = path.step(&inputs.take_state(), &inputs.take_files());
        outlets.publish.send_if_modified(|published| {
            *published = path.assembler.snapshot().clone();
            // A registry revision that changed nothing here is visible, but wakes nobody.
            outcome == Outcome::Changed
        });
        let report = path.skeptic.report();
        outlets.report.send_if_modified(|published| {
            let differs = *published != report;
            *published = report;
            differs
        });
    }
    if let Some(saver) = path.saver.take() {
        saver.finish().await;
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
