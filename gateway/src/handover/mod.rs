//! One process follows another without a refused connection: it gets the listening sockets over a private
//! socket (SCM_RIGHTS), serves on them, and only then does the former one stop.
//!
//! ```text
//! newer                                     older
//! configuration, app files, certificates
//!            ── hello ────────────────────►  one hand-over at a time; same user or root
//!            ◄──────────── welcome, sockets  goes on serving
//! listeners on them, admin, access log
//!            ── release_registry ─────────►  closes the embedded registry, serves its last table
//!            ◄─────────── registry_released
//! registry, table, first probes, workers
//!            ── serving ──────────────────►  tells the service manager: MAINPID
//!            ◄─────────────────────── yours  stops accepting, drains
//!            ◄──────────── draining, reopen_log ──►  until it ends
//! ```
//!
//! Until `yours` is sent nothing has changed: whatever happens to the newer process, the older one opens its
//! registry again and goes on. If the older one dies instead, the newer one has all it needs and goes on alone.
//!
//! [`give`] is the older process's part, [`take`] and [`charge`] are the newer one's, [`drain`] is what is left of
//! the older one, and [`lineage`] what a process knows of those before it.

mod channel;
mod charge;
mod drain;
pub mod give;
pub mod lineage;
pub mod message;
mod socket;
pub mod take;
pub mod upgrade;

use std::time::Duration;

pub use charge::Opened;
pub use drain::Nudge;
pub use give::{Giver, Successor, Taken};
pub use lineage::Lineage;
pub use take::Inheritance;

/// For whoever connects to say what it wants: it has nothing else to do.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two messages. Longer than a start with ten thousand apps on a slow disk, or with a registry and
/// first probes that are waited for; nobody is served worse meanwhile.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
