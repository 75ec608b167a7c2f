//! Who may ask, and how often.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::FilePath;

/// Lists of client addresses. What is denied is refused even where it is allowed too; where anything is
/// allowed, all else is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    /// A network per line, added to `allow`.
    pub allow_file: Option<FilePath>,
    /// A network per line, added to `deny`.
    pub deny_file: Option<FilePath>,
}

/// So many requests in so long a time, evenly, with room for a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Said to clients, and a metric label.
    pub name: Arc<str>,
    pub key: RateKey,
    pub requests: NonZeroU32,
    pub per: Duration,
    /// How many may come at once after a pause.
    pub burst: NonZeroU32,
    /// Clients that are told apart at a time.
    pub keys: u32,
}

/// What requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address; of IPv6 its /64.
    Client,
    /// A field's value; requests without it count as one client.
    Header(Arc<str>),
    /// All together.
    All,
}
