//! The thread that probes: what a hundred thousand probes take delays no change of a route, no answer to an operator and no scrape.

use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::Context;
use healthcheck::{Bounds, Checker, OnTransition};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Of the files that the process may have, an eighth for connections that are kept between probes, and as much for probes under way:
/// 131,072 of the million that the systemd unit asks for. They come out of what is counted for connections to endpoints, of which most
/// clients have none at a time.
const SHARE: usize = 8;

/// What probes may have of `open_files`, which is how many the process may have; `kept` is what the configuration says.
pub fn bounds(open_files: usize, kept: Option<usize>) -> Bounds {
    let share = (open_files / SHARE).max(1);
    Bounds { under_way: Bounds::MAX_UNDER_WAY.min(share), kept: kept.unwrap_or(share) }
}

/// Starts the thread, which ends with `cancel`, and returns who says what is probed there.
///
/// # Errors
/// When there can be no thread.
pub fn start(
    on_transition: OnTransition,
    bounds: Bounds,
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
    Ok(Checker::new(on_transition, bounds, &runtime, cancel))
}
