//! The thread that probes: what a hundred thousand probes take delays no change of a route, no answer to an operator and no scrape.

use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::Context;
use healthcheck::{Bounds, Checker, OnTransition};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Of the files that the process may open, an eighth for connections that are kept between probes: 131,072 of the million that
/// the systemd unit asks for. They come out of what is counted for endpoints, with which most clients have no connection at a time.
const KEPT_SHARE: usize = 8;

/// Starts the thread, which ends with `cancel`, and returns who says what is probed there. `open_files` is how many the process
/// may have.
///
/// # Errors
/// When there can be no thread.
pub fn start(
    on_transition: OnTransition,
    open_files: usize,
    cancel: &CancellationToken,
) -> anyhow::Result<Checker> {
    let (sender, receiver) = sync_channel(1);
    let ending = cancel.clone();
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        // Nobody is gone before it has been told.
        let _ = sender
            .send(runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(|error| error.kind()));
        if let Ok(runtime) = runtime {
            runtime.block_on(ending.cancelled());
        }
    };
    let failed = "cannot start the thread of probes";
    thread::Builder::new().name("probes".to_owned()).spawn(run).context(failed)?;
    let runtime = receiver.recv().context(failed)?.map_err(std::io::Error::from).context(failed)?;
    let share = (open_files / KEPT_SHARE).max(1);
    let bounds = Bounds { under_way: Bounds::MAX_UNDER_WAY.min(share), kept: share };
    Ok(Checker::new(on_transition, bounds, &runtime, cancel))
}
