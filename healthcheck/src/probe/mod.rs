//! One attempt, one result.

pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod tcp;

mod error;
mod once;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub use error::{ProbeError, ProbeResult};
pub use once::{Question, probe_once};
pub(crate) use stream::ProbeStream;
pub use stream::ProbeTls;

const USER_AGENT: &str = concat!("sluice-probe/", env!("CARGO_PKG_VERSION"));

/// Until when a probe must have its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    /// What the settings granted, for the error's text.
    granted: Duration,
}

impl Deadline {
    pub(crate) fn after(start: Instant, granted: Duration) -> Self {
        Self { at: start + granted, granted }
    }
}

async fn connect(address: SocketAddr, deadline: Deadline) -> Result<TcpStream, ProbeError> {
    match timeout_at(deadline.at, TcpStream::connect(address)).await {
        Err(_elapsed) => Err(ProbeError::ConnectTimeout(deadline.granted)),
        Ok(Err(error)) => Err(ProbeError::from_connect(error, deadline.granted)),
        Ok(Ok(stream)) if is_connected_to_itself(&stream) => Err(ProbeError::ConnectRefused),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// Where nobody listens on a local port of the ephemeral range, the kernel may pick that very port for
/// our side, and TCP's simultaneous open connects the socket to itself.
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

#[cfg(test)]
mod tests;
