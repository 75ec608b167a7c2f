//! Runs the machines of all addresses: on a thread of its own, so that nothing else that the gateway does can make a
//! heartbeat late.
//!
//! Every turn begins with the deadlines. Requests to the registry run beside it and are given up after half a registry
//! lease, with their outcome unknown.

mod address;
mod clock;
mod handle;
mod peers;
mod platform;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use crate::config::{Mode, VipConfig};
use crate::eligibility::{Check, Thresholds};
use crate::identity::{BootId, GatewayId};
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::peer::LastWords;

pub use handle::{CommandError, Handle, Status};
pub use platform::{Platform, PlatformError, PlatformEvent};

/// Gateways that are registered. One that goes missing is still asked for grants for as long as it is heard.
pub type Members = Arc<BTreeMap<GatewayId, Member>>;

/// What a registered gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it receives peer messages: [`Handle::listens`].
    pub address: SocketAddr,
    /// By address, its [`weight`](crate::config::VipAddress::weight); 1 where none is named.
    pub weights: BTreeMap<IpAddr, u32>,
}

/// What a driver is made of.
pub struct Parts {
    pub id: GatewayId,
    pub config: VipConfig,
    pub lease: Arc<dyn Lease>,
    pub platform: Box<dyn Platform>,
    pub platform_events: mpsc::Receiver<PlatformEvent>,
    pub members: watch::Receiver<Members>,
    /// What makes this gateway eligible. None: it always is.
    pub checks: Vec<(Check, Thresholds)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen for peers at {address} (vip.peer_listen); is another process of this gateway running?"
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot take off addresses that an earlier process left")]
    Sweep(#[source] PlatformError),
    #[error("cannot make a boot id")]
    Identity(#[source] crate::identity::IdentityError),
    #[error("cannot start the thread of virtual IPs")]
    Thread(#[source] io::Error),
}

/// Starts the driver's thread. The socket is bound without SO_REUSEPORT: a second process of this gateway on this machine
/// cannot start.
///
/// # Errors
/// When the socket, the kernel's leftovers or the thread cannot be had.
pub fn start(mut parts: Parts) -> Result<Handle, StartError> {
    let socket = match (parts.config.mode, parts.config.peer_listen) {
        (Mode::Peer, Some(address)) => {
            let socket = std::net::UdpSocket::bind(address);
            Some(socket.map_err(|source| StartError::Listen { address, source })?)
        }
        _ => None,
    };
    let listens = socket.as_ref().and_then(|socket| socket.local_addr().ok());
    let ips = parts.config.addresses.iter().map(|address| address.ip).collect::<Vec<_>>();
    let swept = parts.platform.sweep(&ips).map_err(StartError::Sweep)?;
    let boot = BootId::random().map_err(StartError::Identity)?;
    let metrics = Arc::new(Metrics::new(ips));
    metrics.stale_addresses_removed.store(swept as u64, std::sync::atomic::Ordering::Relaxed);
    let (commands, received) = mpsc::unbounded_channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let (words, last_words) = watch::channel(LastWords::default());
    let metrics_of_thread = Arc::clone(&metrics);
    let seed =
        run::Seed { parts, boot, socket, metrics: metrics_of_thread, commands: received, last_words: words };
    let thread = std::thread::Builder::new()
        .name("vip".to_owned())
        .spawn(move || runtime.block_on(run::run(seed)))
        .map_err(StartError::Thread)?;
    Ok(Handle { commands, metrics, listens, last_words, thread: Mutex::new(Some(thread)) })
}
