//! What is counted per address: cells that the driver writes and whoever is asked for metrics reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::eligibility::Check;
use crate::machine::DropReason;

/// Upper bounds in seconds: a hand-over, the default lease, a registry's lease, a restart of everything.
pub const TAKEOVER_BOUNDS: [f64; 8] = [0.02, 0.05, 0.2, 0.4, 1.0, 2.0, 10.0, 60.0];

/// One address. Names are those of the metrics, after `sluice_vip_`.
#[derive(Debug, Default)]
pub struct AddressMetrics {
    pub holding: AtomicBool,
    pub epoch: AtomicU64,
    /// Milliseconds; as of the last turn, which is never longer ago than a heartbeat where it is held.
    lease_remaining: AtomicU64,
    acquired: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    takeovers: [AtomicU64; TAKEOVER_BOUNDS.len() + 1],
    takeover_millis: AtomicU64,
    pub grants_missing: AtomicU64,
    pub fence_refresh_errors: AtomicU64,
    pub announcements: AtomicU64,
    pub conflicts: AtomicU64,
}

/// All of a gateway's.
#[derive(Debug)]
pub struct Metrics {
    addresses: BTreeMap<IpAddr, Arc<AddressMetrics>>,
    pub stale_addresses_removed: AtomicU64,
    /// Datagrams that were not what a peer would send: another key, malformed.
    pub messages_refused: AtomicU64,
    /// Another process has this gateway's name.
    pub namesakes: AtomicU64,
    /// By check; 2 where it is not asked for.
    eligible: [AtomicU64; Check::ALL.len()],
}

impl AddressMetrics {
    pub(crate) fn set_lease_remaining(&self, remaining: std::time::Duration) {
        let millis = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        self.lease_remaining.store(millis, Ordering::Relaxed);
    }

    pub fn lease_remaining_seconds(&self) -> f64 {
        seconds(self.lease_remaining.load(Ordering::Relaxed))
    }

    pub(crate) fn count_acquired(&self, took: std::time::Duration) {
        self.holding.store(true, Ordering::Relaxed);
        self.acquired.fetch_add(1, Ordering::Relaxed);
        let bucket = TAKEOVER_BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        self.takeovers[bucket.unwrap_or(TAKEOVER_BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.takeover_millis.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, reason: DropReason) {
        self.holding.store(false, Ordering::Relaxed);
        self.lease_remaining.store(0, Ordering::Relaxed);
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// `transitions_total` by its label `reason`.
    pub fn transitions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let acquired = ("acquired", self.acquired.load(Ordering::Relaxed));
        let dropped = DropReason::ALL.iter().zip(&self.dropped);
        let dropped = dropped.map(|(reason, count)| (reason.as_str(), count.load(Ordering::Relaxed)));
        std::iter::once(acquired).chain(dropped)
    }

    /// `takeover_seconds`: counts up to each of [`TAKEOVER_BOUNDS`] and beyond, not cumulative, and the sum.
    pub fn takeovers(&self) -> ([u64; TAKEOVER_BOUNDS.len() + 1], f64) {
        let counts = std::array::from_fn(|index| self.takeovers[index].load(Ordering::Relaxed));
        (counts, seconds(self.takeover_millis.load(Ordering::Relaxed)))
    }
}

impl Metrics {
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().map(|ip| (ip, Arc::default())).collect(),
            stale_addresses_removed: AtomicU64::new(0),
            messages_refused: AtomicU64::new(0),
            namesakes: AtomicU64::new(0),
            eligible: std::array::from_fn(|_| AtomicU64::new(2)),
        }
    }

    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &AddressMetrics)> {
        self.addresses.iter().map(|(ip, metrics)| (*ip, &**metrics))
    }

    pub(crate) fn address(&self, ip: IpAddr) -> Option<Arc<AddressMetrics>> {
        self.addresses.get(&ip).cloned()
    }

    pub(crate) fn set_eligible(&self, check: Check, good: bool) {
        self.eligible[check as usize].store(u64::from(good), Ordering::Relaxed);
    }

    /// `eligible` by its label `check`, of checks that are asked for.
    pub fn eligible(&self) -> impl Iterator<Item = (Check, bool)> {
        let states = Check::ALL.into_iter().zip(&self.eligible);
        states.filter_map(|(check, state)| match state.load(Ordering::Relaxed) {
            0 => Some((check, false)),
            1 => Some((check, true)),
            _ => None,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a process fit")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_own_cells() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let metrics = AddressMetrics::default();
        metrics.count_acquired(std::time::Duration::from_millis(340));
        metrics.count_dropped(DropReason::HoldMax);
        let counted = metrics.transitions().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(counted, [("acquired", 1), ("hold_max", 1)]);
        assert_eq!(metrics.takeovers(), ([0, 0, 0, 1, 0, 0, 0, 0, 0], 0.34));
    }

    #[test]
    fn checks_that_are_not_asked_for_are_not_shown() {
        let metrics = Metrics::new([]);
        metrics.set_eligible(Check::Carrier, false);
        assert_eq!(metrics.eligible().collect::<Vec<_>>(), [(Check::Carrier, false)]);
    }
}
