//! What one client may ask of a listener. Whoever asks for more is answered or closed, and counted; nobody
//! else notices.

use std::time::Duration;

use crate::message::request::HeadLimits;

/// From a request's first byte to the end of its head. A head fits into a few packets: ten seconds cover a
/// retransmission on a bad mobile link, and slow senders cannot hold a slot longer.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between requests of a connection. nginx's default; below most load balancers' in front of us.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// In bytes per second, of a body that a client sends or takes. Kestrel's and IIS's default: a tenth of
/// what the slowest modem did. Apache waits for 500.
pub const MIN_BODY_RATE: u32 = 240;
/// None: bodies are passed on as they come and kept nowhere, so their size costs us nothing, and only an
/// app can know what it takes. nginx's 1 MiB is the first thing that its users change.
pub const MAX_BODY: u64 = u64::MAX;
/// None, as in HAProxy and Envoy: a connection's memory does not grow with its requests, and a new one costs
/// a handshake. nginx ends them after 1,000, for memory that it frees with the connection.
pub const MAX_REQUESTS: u64 = u64::MAX;

/// What holds for a listener's connections, from the moment at which they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub head: HeadLimits,
    /// Default: [`HEADER_TIMEOUT`].
    pub header_timeout: Duration,
    /// Default: [`KEEPALIVE_TIMEOUT`].
    pub keepalive_timeout: Duration,
    /// Of a request's body, in bytes. Default: [`MAX_BODY`].
    pub max_body: u64,
    /// 0: none. Default: [`MIN_BODY_RATE`].
    pub min_body_rate: u32,
    /// Of one connection. Default: [`MAX_REQUESTS`].
    pub max_requests: u64,
    /// Open at a time, over all workers. Default: as many as the process has sockets for.
    pub max_connections: usize,
    /// Open at a time of one address, see [`crate::worker::ClientKey`]. `None`: half of what the process has sockets
    /// for, which no carrier's NAT fills and which leaves as much for everybody else; of this machine's own
    /// addresses, as many as there are.
    pub max_connections_per_client: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            header_timeout: HEADER_TIMEOUT,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
            max_body: MAX_BODY,
            min_body_rate: MIN_BODY_RATE,
            max_requests: MAX_REQUESTS,
            max_connections: usize::MAX,
            max_connections_per_client: None,
        }
    }
}
