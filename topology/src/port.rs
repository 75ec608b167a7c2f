//! Ports of its own that an app asks for.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortProtocol {
    Tcp,
    Udp,
}

impl PortProtocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An address and port at which every gateway passes all that comes to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppPort {
    /// Port 0 is none.
    pub address: SocketAddr,
    /// Default: TCP.
    pub protocol: PortProtocol,
    /// Without a byte or datagram in either direction. `None`: as of a listener of the gateway.
    pub idle_timeout: Option<Duration>,
}
