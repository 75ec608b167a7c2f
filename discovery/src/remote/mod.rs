//! What registries at the far end of a network have in common, whatever they speak.

pub(crate) mod backoff;
pub(crate) mod registrations;
pub(crate) mod root;

mod access;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::registry::{Link, State};

pub(crate) use access::Credentials;
pub use access::{Access, AccessError, Tls, User};

/// Where the platform that we serve keeps its keys.
pub const DEFAULT_PREFIX: &str = "/caas";

/// How long the servers keep an unheard session and its keys. Three ticks of a ZooKeeper with its default
/// `tickTime` of 2 s, and three keep-alives of an etcd lease: shorter ends sessions over one lost packet,
/// longer leaves the addresses of a dead host registered for longer.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// Requests without an answer yet. Deep enough to hide a millisecond of distance at tens of thousands of
/// keys a second; the answers waiting in our socket stay below 64 MiB were every value at ZooKeeper's limit.
pub(crate) const IN_FLIGHT: usize = 64;

/// Times that others may be quicker than we, one after the other, before we give up.
pub(crate) const MAX_ATTEMPTS: usize = 16;

/// Far above 10,000 apps with tens of instances; below what a broken writer could fill our memory with.
pub(crate) const MAX_KEYS: usize = 1_000_000;

/// Marks the link as lost; the entries stand. `is_first`: nothing has failed since the last success.
pub(crate) fn lose(state: &watch::Sender<State>, why: &str, is_first: bool) {
    let mut lost = false;
    state.send_if_modified(|state| match &mut state.link {
        Link::Connected { .. } => {
            lost = true;
            state.link = Link::Lost { since: Instant::now(), why: why.into() };
            true
        }
        Link::Connecting { why: known } if known.as_deref() != Some(why) => {
            *known = Some(why.into());
            true
        }
        Link::Connecting { .. } | Link::Lost { .. } => false,
    });
    if lost || is_first {
        let entries = state.borrow().entries.len();
        tracing::warn!(why, entries, "registry out of reach, its last state stands");
    } else {
        tracing::debug!(why, "registry still out of reach");
    }
}
