//! What the rest of the gateway sees of names.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::rr::Name;
use imbl::OrdMap;
use tokio::sync::watch;

use super::cells::{AddressState, DnsCells};
use super::zone::{Target, Zone};

/// What is in force: swapped as one, so that nobody sees half of it.
#[derive(Debug, Clone)]
pub struct Published {
    pub zone: Zone,
    /// Customers' own names, for other servers.
    pub outside: Arc<OrdMap<Name, Target>>,
    /// Where queries are answered.
    pub listens: Arc<[SocketAddr]>,
    pub addresses: Arc<[AddressState]>,
}

#[derive(Debug)]
pub struct DnsDesk {
    published: ArcSwapOption<Published>,
    /// Told of each publication of other names.
    changes: watch::Sender<u64>,
    pub cells: Arc<DnsCells>,
}

impl Default for DnsDesk {
    fn default() -> Self {
        Self { published: ArcSwapOption::default(), changes: watch::Sender::new(0), cells: Arc::default() }
    }
}

impl DnsDesk {
    /// `None`: this gateway has no `[dns]`.
    pub fn published(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    /// `tell`: names have changed, so that others have to hear of it.
    pub(super) fn publish(&self, published: Published, tell: bool) {
        self.published.store(Some(Arc::new(published)));
        if tell {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// There are no names any more.
    pub fn clear(&self) {
        self.cells.keep_updates(&[]);
        self.published.store(None);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
