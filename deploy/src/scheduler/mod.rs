//! Which host and port an instance gets. Pure: it is shown the hosts and what of them is given out, and says where, or for
//! every host why not.

mod explain;
mod filter;
mod score;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use topology::{AppId, HostId};

use crate::model::{Host, Ledger, Placement, Reservation, Share};

pub use explain::{Unplaceable, Verdict};
pub use filter::Refusal;

/// A host as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct Seat {
    pub id: HostId,
    pub host: Host,
    pub ledger: Ledger,
    /// Whether its runtime answers.
    pub reachable: bool,
    /// Runnable tasks per processor, in thousandths; `None`: what is given out counts.
    pub load: Option<u32>,
    /// Of its range, what others than instances have.
    pub foreign_ports: BTreeSet<u16>,
}

/// What is to be placed.
#[derive(Debug, Clone)]
pub struct Wish<'w> {
    pub app: &'w AppId,
    pub resources: Reservation,
    pub placement: &'w Placement,
    /// Where one like it has just failed: taken only where no other host will do as well.
    pub avoid: &'w [HostId],
    /// Apps that want to be apart from this one.
    pub shunned_by: &'w [AppId],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seating {
    pub host: HostId,
    pub port: u16,
}

/// Chooses for one instance, without taking anything. `lot` decides where the search for a port begins, so that a port which
/// has just become free, or which somebody holds without our knowing, is not the next one again.
///
/// # Errors
/// [`Unplaceable`] with a reason for every host.
pub fn choose(wish: &Wish<'_>, seats: &[Seat], lot: u64) -> Result<Seating, Unplaceable> {
    let admitted = seats.iter().filter(|seat| filter::refusal(wish, seat).is_none());
    let best = admitted.min_by(|one, other| score::compare(wish, one, other));
    let port = best.and_then(|seat| free_port(seat, lot).map(|port| (seat, port)));
    match port {
        Some((seat, port)) => Ok(Seating { host: seat.id.clone(), port }),
        None => Err(Unplaceable { verdicts: explain(wish, seats) }),
    }
}

/// A dry run: what would become of the wish on each host, best first, then the refusals.
pub fn explain(wish: &Wish<'_>, seats: &[Seat]) -> Vec<Verdict> {
    explain::verdicts(wish, seats)
}

impl Seat {
    pub fn free_memory(&self) -> u64 {
        self.host.memory.saturating_sub(self.ledger.memory())
    }

    pub fn free_cpu(&self) -> u32 {
        self.host.cpu.saturating_sub(self.ledger.cpu())
    }

    /// Writes into the ledger what [`choose`] chose.
    pub fn take(&mut self, name: String, resources: Reservation, port: u16) {
        let share = Share { memory: resources.memory, cpu: resources.cpu, port };
        self.ledger.given.insert(name, share);
    }
}

fn free_port(seat: &Seat, lot: u64) -> Option<u16> {
    let (first, last) = (*seat.host.ports.start(), *seat.host.ports.end());
    let taken: BTreeSet<u16> = seat.ledger.given.values().map(|share| share.port).collect();
    let count = u64::from(last.checked_sub(first)?) + 1;
    let from = lot % count;
    (0..count)
        .filter_map(|at| u16::try_from((from + at) % count).ok())
        .map(|offset| first + offset)
        .find(|port| !taken.contains(port) && !seat.foreign_ports.contains(port))
}
