//! Signs of life, as long as every worker gives one.

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServiceManager;
use crate::serve::{Command, confirm};

/// Signs per period, as sd_watchdog_enabled(3) advises: one that is late is no death.
const SIGNS: u32 = 2;

/// Tells `manager` that we live, until `cancel`: after each round in which every worker has answered. A worker
/// that hangs, or a control plane that does, ends that, and the manager restarts us. Does nothing where
/// no watchdog is wanted.
pub fn watch_workers(
    manager: ServiceManager,
    workers: Vec<UnboundedSender<Command>>,
    cancel: CancellationToken,
) -> Option<JoinHandle<()>> {
    let period = manager.watchdog()? / SIGNS;
    Some(tokio::spawn(async move {
        let rounds = async {
            loop {
                if confirm(&workers).await {
                    manager.alive();
                }
                tokio::time::sleep(period).await;
            }
        };
        cancel.run_until_cancelled(rounds).await;
    }))
}
