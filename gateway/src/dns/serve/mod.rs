//! The sockets of names. What is answered is decided in [`super::answer`].

pub mod sockets;
mod tcp;
mod udp;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use sockets::Doors;
pub use tcp::Connections;

use super::access::Access;
use super::desk::DnsDesk;
use super::rate::RateLimit;

/// What sockets answer with.
#[derive(Clone)]
pub struct Clerk {
    pub desk: Arc<DnsDesk>,
    pub access: Arc<Access>,
    /// `None`: answers are not limited.
    pub limit: Option<RateLimit>,
    /// Networks whose answers are not limited.
    pub exempt: Arc<[ipnet::IpNet]>,
}

/// Serves one address until `cancel`.
pub async fn serve(doors: Doors, clerk: Clerk, connections: Arc<Connections>, cancel: CancellationToken) {
    let Doors { udp, tcp, address } = doors;
    let served = async {
        tokio::join!(udp::serve(udp, &clerk, &cancel), tcp::serve(tcp, &clerk, &connections, &cancel));
    };
    served.await;
    tracing::debug!(%address, "names are not answered here any more");
}
