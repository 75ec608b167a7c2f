//! What the process must be allowed to do.

use rustix::thread::{CapabilitySet, capabilities};

use super::error::{Capability, Error, Result};

/// Which capabilities for virtual IPs the process lacks, to be told all at once at a start. Having one may not be
/// enough: a network namespace can belong to somebody else, and then the first use says so.
///
/// # Errors
/// The system's.
pub fn missing_capabilities() -> Result<Vec<Capability>> {
    let sets = capabilities(None).map_err(|errno| Error::Kernel {
        doing: "asking for the process's capabilities",
        source: errno.into(),
    })?;
    let lacks = |capability: &Capability| {
        let wanted = match capability {
            Capability::NetAdmin => CapabilitySet::NET_ADMIN,
            Capability::NetRaw => CapabilitySet::NET_RAW,
        };
        !sets.effective.contains(wanted)
    };
    Ok(Capability::ALL.into_iter().filter(lacks).collect())
}
