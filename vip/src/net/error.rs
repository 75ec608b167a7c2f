//! What can go wrong between a gateway and its kernel, and what to do about it.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Why the kernel did not do what was asked. `Display` says what was tried and, where somebody has to mend
/// something, what; the system's error is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The fix is to correct `vip.interface`.
    #[error("vip.interface: there is no interface {name:?}; there are {}", known.join(", "))]
    NoInterface { name: String, known: Vec<String> },
    #[error("vip.interface: {name:?} is no Ethernet interface: nobody resolves addresses on it")]
    NotEthernet { name: String },
    /// The process may not do it.
    #[error(
        "{doing} needs {capability}: give it to the service (AmbientCapabilities={capability} and \
         CapabilityBoundingSet={capability} in its systemd unit) or to the binary (setcap {}+ep), or start it as root",
        capability.as_str().to_lowercase()
    )]
    NotPermitted { doing: &'static str, capability: Capability, source: io::Error },
    #[error(
        "{doing}: this kernel has no nf_tables for {missing}; load the module {module} or use a kernel built with it"
    )]
    NoNftables { doing: &'static str, missing: &'static str, module: &'static str, source: io::Error },
    /// The refresh reached the kernel too late to be believed: the process was stopped or starved meanwhile.
    #[error("{doing}: stopped for longer than {} ms at each attempt, so the fence was closed", super::fence::FRESHNESS.as_millis())]
    Stalled { doing: &'static str },
    #[error("{count} addresses are more than a gateway can hold ({most})")]
    TooMany { count: usize, most: usize },
    /// Somebody started the guard by hand.
    #[error(
        "the guard is started by the gateway: its standard input must be a descriptor of the process to watch"
    )]
    NoProcess,
    #[error("{doing}")]
    Kernel { doing: &'static str, source: io::Error },
}

pub type Result<T> = std::result::Result<T, Error>;

/// What a process may be allowed to do without being root: capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Addresses, and the fence.
    NetAdmin,
    /// Packet sockets: announcements and the watch for conflicts.
    NetRaw,
}

impl Capability {
    pub(super) const ALL: [Self; 2] = [Self::NetAdmin, Self::NetRaw];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// The system's error while `doing`, which needs `capability`.
    pub(super) fn of(doing: &'static str, capability: Capability, error: impl Into<io::Error>) -> Self {
        let source = error.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { doing, capability, source },
            _ => Self::Kernel { doing, source },
        }
    }

    /// The system's number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::NotPermitted { source, .. }
            | Self::NoNftables { source, .. }
            | Self::Kernel { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }
}
