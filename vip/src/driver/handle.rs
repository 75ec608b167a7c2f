//! How the rest of the gateway speaks to the driver.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::eligibility::Check;
use crate::identity::GatewayId;
use crate::metrics::Metrics;
use crate::peer::LastWords;

/// One address, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub ip: IpAddr,
    /// As the register has it; `None`: nobody yet, or unknown.
    pub holder: Option<GatewayId>,
    pub epoch: u64,
    pub released: bool,
    pub grantors: Vec<GatewayId>,
    /// This gateway answers for it, for that long if nothing is renewed.
    pub holding: Option<Duration>,
    /// Gateways that could hold it, the best first.
    pub order: Vec<GatewayId>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("{0} is no virtual IP of this gateway; `sluice vip list` shows them")]
    UnknownAddress(IpAddr),
    #[error("this gateway does not hold {ip}; ask {}", .holder.as_ref().map_or("the holder, once there is one", GatewayId::as_str))]
    NotHolder { ip: IpAddr, holder: Option<GatewayId> },
    #[error(
        "{gateway} cannot take {ip}: it is not heard of, does not serve, or is not in the address's `gateways`"
    )]
    NotEligible { ip: IpAddr, gateway: GatewayId },
    #[error("the driver has ended")]
    Ended,
}

#[derive(Debug)]
pub(super) enum Command {
    Report { check: Check, passed: bool },
    Drain { draining: bool },
    Move { ip: IpAddr, to: GatewayId, reply: oneshot::Sender<Result<(), CommandError>> },
    List { reply: oneshot::Sender<Vec<Status>> },
    Stop,
}

/// A running driver. Dropping it stops the driver without waiting.
#[derive(Debug)]
pub struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) listens: Option<SocketAddr>,
    pub(super) last_words: watch::Receiver<LastWords>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where peers reach it, for the registry: of `peer_listen`, with the port that was chosen where that is 0.
    pub fn listens(&self) -> Option<SocketAddr> {
        self.listens
    }

    /// What a guard is to send when this process has ended, for as long as the driver runs.
    pub fn last_words(&self) -> watch::Receiver<LastWords> {
        self.last_words.clone()
    }

    /// One result of a check.
    pub fn report(&self, check: Check, passed: bool) {
        // A driver that has ended needs none.
        let _ = self.commands.send(Command::Report { check, passed });
    }

    /// Lets go of all addresses for which another gateway is eligible, and takes none.
    pub fn drain(&self) {
        let _ = self.commands.send(Command::Drain { draining: true });
    }

    pub fn undrain(&self) {
        let _ = self.commands.send(Command::Drain { draining: false });
    }

    /// Hands `ip` over. Returns when that is under way.
    ///
    /// # Errors
    /// When this gateway does not hold it, or `to` could not.
    pub async fn move_to(&self, ip: IpAddr, to: GatewayId) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Move { ip, to, reply }).map_err(|_| CommandError::Ended)?;
        answer.await.unwrap_or(Err(CommandError::Ended))
    }

    /// All addresses.
    ///
    /// # Errors
    /// When the driver has ended.
    pub async fn list(&self) -> Result<Vec<Status>, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::List { reply }).map_err(|_| CommandError::Ended)?;
        answer.await.map_err(|_| CommandError::Ended)
    }

    /// Lets go of everything, tells the registry, and ends. Blocks for half a registry lease at most where the registry
    /// does not answer. Who calls it a second time does not wait.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has said why it panicked, if it did.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
    }
}
