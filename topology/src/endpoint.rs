//! One address of one instance.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{InstanceId, OperatorWord, VersionId};

/// What identifies an endpoint within its app across changes of its address and weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    pub version: VersionId,
    pub instance: InstanceId,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 in clear text.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge in clear text, by ALPN over TLS.
    Http2,
    /// Bytes: only TCP listeners route to it.
    Tcp,
    /// Datagrams: only UDP listeners route to it. Nobody probes it, so it is up.
    Udp,
}

impl Protocol {
    /// Whether requests can be routed to it.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2)
    }
}

/// Who told us of an endpoint. Registered instances promise to answer `/_ping`; an address that an
/// operator wrote in a file promises nothing, so it is probed only where its app says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Registry,
    File,
}

/// One address, its weight and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub key: InstanceKey,
    pub address: SocketAddr,
    /// Share of its version's traffic relative to the others; 0 takes none. As it was registered or written: what
    /// holds is [`Self::effective_weight`].
    pub weight: u16,
    pub protocol: Protocol,
    /// Where it runs, as its registrar says; compared with the gateway's own.
    pub zone: Option<Arc<str>>,
    /// Takes requests only where no other one can.
    pub is_backup: bool,
    pub origin: Origin,
    pub word: OperatorWord,
}

impl Endpoint {
    /// A value without a weight counts as one share.
    pub const DEFAULT_WEIGHT: u16 = 1;

    /// An operator's, where one says something.
    pub fn effective_weight(&self) -> u16 {
        self.word.weight.unwrap_or(self.weight)
    }
}
