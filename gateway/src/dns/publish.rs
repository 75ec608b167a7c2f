//! From the table in force to the zone in force: follows the routing table and the state of addresses.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cells::AddressState;
use super::desk::{DnsDesk, Published};
use super::names::{Names, Naming};
use super::zone::{Apex, Down, Zone, next_serial};
use crate::table::RoutingTable;
use crate::worker::Shared;

/// Between two serials. The first change is out at once; a deploy of a hundred apps is one transfer. It also keeps serials,
/// of which there is one a second, behind the clock that they follow.
const PACE: Duration = Duration::from_secs(1);

/// What is told of each address.
pub type States = Box<dyn Fn(&Down) -> Vec<AddressState> + Send>;

pub struct Publisher {
    pub naming: Naming,
    pub apex: Arc<Apex>,
    pub listens: Arc<[std::net::SocketAddr]>,
    pub shared: Arc<Shared>,
    pub desk: Arc<DnsDesk>,
    pub states: States,
    /// What `names` are of.
    pub former: Arc<RoutingTable>,
    pub names: Names,
}

impl Publisher {
    /// Whenever the table or the addresses change, until `cancel`.
    pub async fn run(
        mut self,
        mut applied: watch::Receiver<u64>,
        mut downs: watch::Receiver<Arc<Down>>,
        cancel: CancellationToken,
    ) {
        loop {
            // Marked as seen first: what changes meanwhile is looked at again.
            applied.borrow_and_update();
            let down = downs.borrow_and_update().clone();
            self.publish(down);
            let next = Instant::now() + PACE;
            let changed = async {
                tokio::select! {
                    changed = applied.changed() => changed.is_ok(),
                    changed = downs.changed() => changed.is_ok(),
                }
            };
            if cancel.run_until_cancelled(changed).await != Some(true) {
                return;
            }
            if cancel.run_until_cancelled(tokio::time::sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Puts the names of the table in force.
    pub fn publish(&mut self, down: Arc<Down>) {
        let table = self.shared.table.load_full();
        self.naming.follow(&self.former, &table, &mut self.names);
        let last = self.desk.published();
        let outside = Arc::new(self.names.outside.clone());
        let mut zone = Zone {
            apex: self.apex.clone(),
            names: self.names.inside.clone(),
            down,
            serial: 0,
            revision: table.snapshot.registry_revision,
        };
        self.former = table;
        let is_same = last.as_ref().is_some_and(|last| zone.is_same(&last.zone));
        let serial = last.as_ref().map(|last| last.zone.serial).filter(|serial| *serial > 0);
        zone.serial = match serial {
            Some(serial) if is_same => serial,
            serial => next_serial(serial, unix_seconds()),
        };
        if !is_same {
            tracing::info!(
                serial = zone.serial,
                names = zone.names.len(),
                registry_revision = zone.revision,
                "names in force"
            );
        }
        let is_known = is_same && last.is_some_and(|last| last.outside == outside);
        let addresses = (self.states)(&zone.down).into();
        let published = Published { zone, outside, listens: self.listens.clone(), addresses };
        self.desk.publish(published, !is_known);
    }
}

pub fn unix_seconds() -> u64 {
    // A clock before 1970 is wrong by more than any signature allows.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
