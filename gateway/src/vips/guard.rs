//! Keeps a guard: a process of our own binary that cleans up after us, whatever ends us.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use vip::net::{Guard, Line};
use vip::peer::LastWords;

/// Between two starts: what cannot run is not started in a circle.
const PAUSE: Duration = Duration::from_secs(1);

/// The guard's command, as `sluice vip-guard` reads it. Our own file even where another one has its name by now.
pub fn command(interface: &str, table: Option<&str>, vips: &[IpAddr]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("vip-guard").arg("--interface").arg(interface);
    if let Some(table) = table {
        command.arg("--table").arg(table);
    }
    command.args(vips.iter().map(IpAddr::to_string));
    command
}

/// One guard after the other, as long as they are needed.
pub struct GuardKeeper {
    dismiss: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl GuardKeeper {
    /// # Errors
    /// When the first one cannot be started.
    pub fn start(
        command: impl Fn() -> Command + Send + 'static,
        line: Line,
        words: watch::Receiver<LastWords>,
    ) -> vip::net::Result<Self> {
        let guard = Guard::start(command(), line)?;
        let (dismiss, dismissed) = oneshot::channel();
        Ok(Self { dismiss, task: tokio::spawn(keep(guard, command, words, dismissed)) })
    }

    /// Ends the guard: another process is to hold what this one held. Without this it stays on guard until we end.
    pub async fn dismiss(self) {
        // A task that has ended keeps no guard.
        let _ = self.dismiss.send(());
        let _ = self.task.await;
    }
}

async fn keep(
    mut guard: Guard,
    command: impl Fn() -> Command + Send + 'static,
    mut words: watch::Receiver<LastWords>,
    mut dismissed: oneshot::Receiver<()>,
) {
    loop {
        words.mark_changed();
        let how = tokio::select! {
            how = serve(&mut guard, &mut words) => how,
            told = &mut dismissed => {
                if told.is_ok() {
                    dismiss(guard).await;
                }
                return;
            }
        };
        tracing::error!(how, "the guard of the virtual IPs has ended; another one is started");
        dismiss(guard).await;
        guard = loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = &mut dismissed => return,
            }
            match Line::new().and_then(|line| Guard::start(command(), line)) {
                Ok(guard) => break guard,
                Err(error) => tracing::error!(%error, "there is no guard of the virtual IPs"),
            }
        };
    }
}

/// Hands it every change of the last words, for as long as it takes them. Returns why it is of no use any more.
async fn serve(guard: &mut Guard, words: &mut watch::Receiver<LastWords>) -> String {
    loop {
        tokio::select! {
            status = guard.lost() => {
                return status.map_or_else(|error| error.to_string(), |status| status.to_string());
            }
            Ok(()) = words.changed() => {}
        }
        let newest = words.borrow_and_update().clone();
        if let Err(error) = guard.entrust(&newest).await {
            return format!("it does not listen: {error}");
        }
    }
}

async fn dismiss(guard: Guard) {
    // One that has ended is dismissed.
    if guard.pid().is_some()
        && let Err(error) = guard.dismiss().await
    {
        tracing::warn!(%error, "the guard of the virtual IPs cannot be dismissed");
    }
}
