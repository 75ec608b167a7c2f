//! How long an app's requests may take, phase by phase.

use std::time::Duration;

/// What an app's owner says of time. `None`: the gateway's default for that phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection to an endpoint can be used: TCP, TLS and HTTP/2's first settings together.
    pub connect: Option<Duration>,
    /// From the request's last byte to the end of the response's head.
    pub first_byte: Option<Duration>,
    /// Between two pieces of a response's body.
    pub between_bytes: Option<Duration>,
    /// From the end of the request's head to the end of the response, retries and waits included.
    pub request: Option<Duration>,
    /// Of a tunnel (WebSocket, CONNECT, TCP), without a byte in either direction.
    pub tunnel_idle: Option<Duration>,
    /// For which a connection to an endpoint is kept without a request.
    pub upstream_idle: Option<Duration>,
}
