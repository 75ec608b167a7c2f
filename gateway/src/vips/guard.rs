//! Keeps a guard: a process of our own binary that cleans up after us, whatever ends us.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use tokio::sync::oneshot;
use vip::net::Guard;

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
    pub fn start(command: impl Fn() -> Command + Send + 'static) -> vip::net::Result<Self> {
        let guard = Guard::start(command())?;
        let (dismiss, dismissed) = oneshot::channel();
        Ok(Self { dismiss, task: tokio::spawn(keep(guard, command, dismissed)) })
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
    mut dismissed: oneshot::Receiver<()>,
) {
    loop {
        let status = tokio::select! {
            status = guard.lost() => status,
            told = &mut dismissed => {
                if told.is_ok() && let Err(error) = guard.dismiss().await {
                    tracing::warn!(%error, "the guard of the virtual IPs cannot be dismissed");
                }
                return;
            }
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::error!(how, "the guard of the virtual IPs has ended; another one is started");
        guard = loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = &mut dismissed => return,
            }
            match Guard::start(command()) {
                Ok(guard) => break guard,
                Err(error) => tracing::error!(%error, "there is no guard of the virtual IPs"),
            }
        };
    }
}
