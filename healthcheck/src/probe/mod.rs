//! One attempt, one result.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod mysql;
pub(crate) mod redis;
pub(crate) mod tcp;

mod body;
mod error;
mod once;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub(crate) use error::Outcome;
pub use error::{Pass, ProbeError, ProbeResult};
pub use once::{Question, probe_once};
pub use stream::ProbeTls;
pub(crate) use stream::{Idle, ProbeStream};

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

/// Where a probe goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<&'a Arc<dyn ProbeTls>>,
    pub(crate) deadline: Deadline,
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
