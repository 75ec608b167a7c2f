//! Why a host did not do what it was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What was in the way, as far as a caller acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The registry has no such image, or will not say whether it has.
    ImageNotFound,
    /// The image registry refuses our credentials, or wants some.
    RegistryAuth,
    /// The host cannot reach the image registry.
    RegistryUnreachable,
    /// Nothing answers at the host's address, or not as a runtime does.
    HostUnreachable,
    /// The host took longer than the call's deadline: it may hang.
    Timeout,
    /// Somebody else listens on the host's port.
    PortTaken,
    /// Memory, disk, processes, or a limit that the instance has outgrown.
    OutOfResources,
    /// The image, or the machine, has no such program, or it may not be run.
    CommandNotFound,
    NoSuchInstance,
    /// The instance has ended, or has not begun.
    NotRunning,
    /// The spec asks for what can never be; the text names the field.
    InvalidSpec,
    /// This host cannot do that; the text says what would let it.
    Unsupported,
    /// The name is held by something that is not ours.
    Conflict,
    /// Anything else; the chain of causes says what.
    Failed,
}

impl Fault {
    /// The word for logs, metrics and the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::ImageNotFound => "image_not_found",
            Self::RegistryAuth => "registry_auth",
            Self::RegistryUnreachable => "registry_unreachable",
            Self::HostUnreachable => "host_unreachable",
            Self::Timeout => "host_timeout",
            Self::PortTaken => "port_taken",
            Self::OutOfResources => "out_of_resources",
            Self::CommandNotFound => "command_not_found",
            Self::NoSuchInstance => "no_such_instance",
            Self::NotRunning => "not_running",
            Self::InvalidSpec => "invalid_spec",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }

    /// Whether the same call may succeed later on the same host without anybody changing the spec.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::RegistryUnreachable
                | Self::HostUnreachable
                | Self::Timeout
                | Self::OutOfResources
                | Self::PortTaken
                | Self::Failed
        )
    }

    /// Whether another host may well do what this one did not.
    pub fn is_of_the_host(self) -> bool {
        matches!(
            self,
            Self::RegistryUnreachable
                | Self::HostUnreachable
                | Self::Timeout
                | Self::OutOfResources
                | Self::PortTaken
                | Self::Unsupported
                | Self::Conflict
                | Self::Failed
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// A call that failed. Its text says what was tried, where, and what is in the way.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} on {host}: {reason}")]
pub struct RuntimeError {
    pub fault: Fault,
    /// What was tried: `start shop/v1/c1`.
    pub doing: String,
    pub host: Arc<str>,
    /// For people; bounded, and without control characters.
    pub reason: String,
    /// The call may have had its effect all the same: the answer was lost, or came too late.
    pub may_have_happened: bool,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}
