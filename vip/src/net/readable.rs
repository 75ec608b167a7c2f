//! Waiting for descriptors in a runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until there is something to read. Who needs the descriptor otherwise gives a clone of it. Must be called within
/// a tokio runtime.
///
/// # Errors
/// The runtime's.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "the descriptor must outlive its registration")]
    // SAFETY: the registration owns the descriptor and lends it to nobody.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
