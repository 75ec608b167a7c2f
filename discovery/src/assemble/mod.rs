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
//! - The outcome depends on the keys as they stand and their last good values, not on the order of
//!   events, so that all gateways agree.

mod assembler;
mod registered;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::Snapshot;

use crate::file::{FileSource, FileState};
use crate::registry::{Registry, State};
use crate::secrets::Keys;
use assembler::{Assembler, Outcome};

/// Starts the path from sources to snapshots.
#[derive(Debug)]
pub struct Discovery;

impl Discovery {
    /// Assembles snapshots until `cancel` is cancelled; then it stops `files` and ends. The receiver
    /// holds what the files and the registry's state said at the call; it is not marked as unseen.
    /// While the registry is out of reach its last entries stand. `keys` open the specs that are sealed.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(
        registry: Arc<dyn Registry>,
        files: FileSource,
        keys: Option<Keys>,
        cancel: CancellationToken,
    ) -> (watch::Receiver<Snapshot>, JoinHandle<()>) {
        let mut inputs = Inputs { states: registry.watch(), files: files.watch() };
        let mut assembler = Assembler::new(keys);
        assembler.apply(&inputs.take_state(), &inputs.take_files());
        let (publish, snapshots) = watch::channel(assembler.snapshot().clone());
        let task = tokio::spawn(async move {
            run(inputs, assembler, publish, cancel).await;
            files.stop().await;
            // The registry's session lasts as long as what is assembled from it.
            drop(registry);
        });
        (snapshots, task)
    }
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

async fn run(
    mut inputs: Inputs,
    mut assembler: Assembler,
    publish: watch::Sender<Snapshot>,
    cancel: CancellationToken,
) {
    while cancel.run_until_cancelled(inputs.changed()).await.is_some() {
        let outcome = assembler.apply(&inputs.take_state(), &inputs.take_files());
        publish.send_if_modified(|published| {
            *published = assembler.snapshot().clone();
            // A registry revision that changed nothing here is visible, but wakes nobody.
            outcome == Outcome::Changed
        });
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
