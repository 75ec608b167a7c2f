//! What a line tells.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::proxy::Facts;
use crate::reason::Reason;
use crate::table::PooledEndpoint;

/// Whether something leaves a line once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    Always,
    /// Only if it fails.
    Failures,
    Never,
}

impl Logging {
    /// Whether what failed or did not is to be written.
    pub fn includes(self, is_failure: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Failures => is_failure,
            Self::Never => false,
        }
    }
}

/// How it ended, whatever it was: the part that requests, connections and sessions have in common.
#[derive(Debug)]
pub struct Ending<'a> {
    pub at: Instant,
    pub client: IpAddr,
    pub listener: &'a str,
    pub status: u16,
    pub reason: Option<Reason>,
    pub app: Option<&'a str>,
    pub endpoint: Option<&'a PooledEndpoint>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub took: Duration,
    /// Of that, until the endpoint had answered or taken the connection.
    pub awaited: Option<Duration>,
    pub retries: u32,
}

impl Ending<'_> {
    /// From here on a status says that something is wrong that is not the client's doing.
    const FAILURES: u16 = 500;
    /// From here on the reason for an answer of our own is one why something was not done.
    const REFUSALS: u16 = 400;

    /// Whether somebody will want to know: the gateway had to give up, or the endpoint had.
    pub fn is_failure(status: u16, reason: Option<Reason>) -> bool {
        status >= Self::FAILURES || reason.is_some_and(|reason| reason.status() >= Self::REFUSALS)
    }
}

/// A request that is over.
#[derive(Debug)]
pub struct Entry<'a> {
    pub facts: &'a Facts,
    /// Of `sent_bytes` the response's content, without head and framing.
    pub body_bytes: u64,
    pub ending: Ending<'a>,
}

impl Entry<'_> {
    /// Whom trusted peers name as the client, else the peer.
    pub(super) fn client(&self) -> IpAddr {
        self.facts.log.as_ref().and_then(|log| log.client).unwrap_or(self.ending.client)
    }
}

/// A connection of a TCP listener, or a session of a UDP listener, that is over. It has the fields of
/// a request that make sense for it, under the same names.
#[derive(Debug)]
pub struct StreamEntry<'a> {
    /// Stands where a request has its method: `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What a TLS client asked for, where the listener looks.
    pub server_name: Option<&'a str>,
    pub ending: Ending<'a>,
}

impl StreamEntry<'_> {
    /// What is counted for it: as if it had been a request.
    const IN_ORDER: u16 = 200;

    /// The status that stands for how it ended.
    pub fn status(reason: Option<Reason>) -> u16 {
        reason.map_or(Self::IN_ORDER, Reason::status)
    }
}
