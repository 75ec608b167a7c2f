//! How a virtual IP is put on the wire, and kept off it: addresses, the fence, announcements, the watch for
//! conflicts, the guard.
//!
//! Everything here does what it is told, at once and without a runtime; who holds what is not its concern. The order
//! is the caller's: fence installed, then the address put on, then the fence opened, then announced; and back in
//! the opposite order. All of it takes place in the network namespace of the calling thread.

mod address;
mod announce;
mod conflict;
mod error;
mod fence;
mod guard;
mod interface;
mod netlink;
pub mod packet;
mod privileges;
mod readable;

pub use address::{Addresses, Assigned, Stale};
pub use announce::{Announcer, Schedule};
pub use conflict::ConflictWatch;
pub use error::{Capability, Error, Result};
pub use fence::{FRESHNESS, Fence, Hold, MOST_ADDRESSES};
pub use guard::{Guard, Line, Orders, stand_guard};
pub use interface::{Changes, Interface, Mac};
pub use privileges::missing_capabilities;
pub use readable::readable;
