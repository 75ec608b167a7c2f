//! What the driver asks of the machine that it runs on.

use std::net::IpAddr;
use std::time::Instant;

/// Addresses, the fence and announcements, as the kernel has them. Called on the driver's thread; each call may take
/// a few milliseconds.
pub trait Platform: Send + 'static {
    /// Removes what an earlier process left and closes the fence for all of `ips`. Returns how many
    /// addresses it removed. Nothing is granted or claimed before it has succeeded.
    ///
    /// # Errors
    /// The kernel's; the driver does not start.
    fn sweep(&mut self, ips: &[IpAddr]) -> Result<usize, PlatformError>;

    /// Answers for `ip` until `until` and not longer, also if this process never runs again: later or earlier than
    /// asked before. Begins to announce an address that it did not answer for.
    ///
    /// `until` is absolute. What passes between the caller's look at its clock and the kernel's must not be added to it:
    /// a process can be stopped there for as long as anyone likes.
    ///
    /// # Errors
    /// The kernel's, or that `until` has passed. It may answer until the latest `until` that it was ever given.
    fn hold(&mut self, ip: IpAddr, until: Instant) -> Result<(), PlatformError>;

    /// Does not answer for `ip` any more when it returns.
    ///
    /// # Errors
    /// The kernel's. It may answer until the latest `until` that it was given.
    fn release(&mut self, ip: IpAddr) -> Result<(), PlatformError>;

    /// Tells the neighbours anew, as after taking the address.
    fn announce_again(&mut self, ip: IpAddr);

    /// When the next announcement is due.
    fn next_announcement(&self) -> Option<Instant>;

    /// Sends what is due and returns for which addresses.
    fn announce_due(&mut self, now: Instant) -> Vec<IpAddr>;
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {ip}")]
pub struct PlatformError {
    pub doing: &'static str,
    pub ip: IpAddr,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What the kernel has to say by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformEvent {
    /// Another machine answers for the address.
    Contested(IpAddr),
    /// The interface has a carrier again, or none.
    Carrier(bool),
}
