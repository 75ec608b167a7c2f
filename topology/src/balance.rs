//! How requests are spread over the endpoints that may take them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How requests are spread over the endpoints of a version, or of an app without a split.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn, by weight, without bursts.
    #[default]
    RoundRobin,
    /// By lot, by weight.
    Random,
    /// Of two that are drawn by weight, the one with fewer requests under way.
    LeastRequests,
    /// Of two that are drawn by weight, the one that is expected to answer sooner.
    PeakEwma {
        /// How long a latency is remembered: after that time what was seen counts for a third.
        decay: Duration,
    },
    /// Requests with one key go to one endpoint.
    Hash(Arc<Hashing>),
}

/// Settings of [`Balance::Hash`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashing {
    pub key: HashKey,
    pub algorithm: HashAlgorithm,
    /// In percent of the mean, the requests under way that an endpoint may have before the next one is asked;
    /// `None`: as many as come.
    pub bounded_load: Option<u32>,
}

/// How keys are spread over endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashAlgorithm {
    /// A table of nearly equal shares.
    #[default]
    Maglev,
    /// A ring that other programs make in the same way.
    Ketama,
}

impl HashAlgorithm {
    /// The word for it in specs and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::Ketama => "ketama",
        }
    }
}

/// What of a request its endpoint is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Client,
    /// A field's value; the name in lower case.
    Header(Arc<str>),
    Cookie(Arc<str>),
    /// Without the query, normalized as routes see it.
    Path,
    /// Path and query as they came.
    Uri,
}

impl Balance {
    /// finagle's and linkerd2's: long enough to remember a pause of seconds, short enough to give an endpoint that was
    /// slow its next chance within a minute.
    pub const DEFAULT_DECAY: Duration = Duration::from_secs(10);

    /// The word for it in specs and reports.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::LeastRequests => "least_requests",
            Self::PeakEwma { .. } => "peak_ewma",
            Self::Hash(_) => "hash",
        }
    }

    /// Whether it has to know what endpoints have under way.
    pub fn counts_requests(&self) -> bool {
        match self {
            Self::RoundRobin | Self::Random => false,
            Self::LeastRequests | Self::PeakEwma { .. } => true,
            Self::Hash(hashing) => hashing.bounded_load.is_some(),
        }
    }
}

/// As specs write it.
impl fmt::Display for HashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => formatter.write_str("client"),
            Self::Header(name) => write!(formatter, "header:{name}"),
            Self::Cookie(name) => write!(formatter, "cookie:{name}"),
            Self::Path => formatter.write_str("path"),
            Self::Uri => formatter.write_str("uri"),
        }
    }
}
