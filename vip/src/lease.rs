//! What holding needs of a registry: registers that change by compare-and-set.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::register::{Register, Versioned};

/// What lies where an address's register belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    Register(Versioned),
    /// Written by somebody else, or by a newer release: nobody takes over, a holder lets go.
    Unreadable {
        version: u64,
        why: String,
    },
}

impl Entry {
    pub fn version(&self) -> u64 {
        match self {
            Self::Register(versioned) => versioned.version,
            Self::Unreadable { version, .. } => *version,
        }
    }
}

/// All registers as last seen; shared.
pub type Entries = Arc<BTreeMap<IpAddr, Entry>>;

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The register's version is not the expected one.
    #[error("the register of {0} was changed by another")]
    Conflict(IpAddr),
    #[error("cannot {doing} the register of {ip}{}", if *.may_have_happened { "; it may have happened all the same" } else { "" })]
    Failed {
        doing: &'static str,
        ip: IpAddr,
        /// It may be in force already, or come into force later.
        may_have_happened: bool,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A registry, seen as one register per address. Safety rests on the first three promises:
///
/// - Compare-and-set is linearizable: of two writes that expect the same version at most one ever happens.
/// - Versions of one register grow with every write, also across deletion and creation.
/// - An error without `may_have_happened` says that the write did not happen and never will.
/// - `read` sees every write that was acknowledged before it was called.
/// - `watch` shows every last state in the end; it may miss ones in between, and be late.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    async fn read(&self, ip: IpAddr) -> Result<Option<Entry>, LeaseError>;

    /// Writes where the version is `expected` (none: where there is no register), and returns the new
    /// version. Dropping the future leaves the outcome unknown.
    async fn write(&self, ip: IpAddr, register: &Register, expected: Option<u64>) -> Result<u64, LeaseError>;

    fn watch(&self) -> watch::Receiver<Entries>;
}
