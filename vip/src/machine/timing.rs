//! How long everything takes, derived from four durations that are configured.

use std::time::Duration;

use crate::config::shortest_grace;

/// Heartbeats per lease: a lease survives four that are lost in a row.
const BEATS_PER_LEASE: u32 = 6;
/// A grantor that was silent for this part of a lease is removed; the other part is the time for it.
const SILENCES_PER_LEASE: u32 = 2;
/// Renewals per registry lease, and refreshing writes per `hold_max`.
const WRITES_PER_LEASE: u32 = 4;
/// Between two requests to a registry that fails: two per heartbeat.
const RETRIES_PER_LEASE: u32 = 12;
/// Later ranks find out in this time that an earlier one has taken over: a write and its notice.
const RANK_STEP: Duration = Duration::from_millis(15);
/// A gateway that took over this often within the window lets others go first.
pub(super) const MOVES: usize = 5;
/// Runs that are known to be over: as many as may end before the register is read again, and more.
pub(super) const ENDED: usize = 16;
const MOVES_WINDOW: Duration = Duration::from_secs(60);

/// Derived durations. `grace`, `registry_grace` and `hold_grace` are waits; each is longer than the lease it
/// belongs to by what clocks and the fence may err.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// What a grant is worth, from when the heartbeat was sent.
    pub lease: Duration,
    /// How long a grantor does not take over after a grant or a new version.
    pub grace: Duration,
    /// What a write is worth in registry mode, from when it was sent.
    pub registry_lease: Duration,
    /// How long anybody waits after a version in registry mode.
    pub registry_grace: Duration,
    /// What a write is worth in peer mode.
    pub hold_max: Duration,
    /// How long who is no grantor waits after a version in peer mode.
    pub hold_grace: Duration,
    pub heartbeat: Duration,
    pub silence: Duration,
    pub renew: Duration,
    pub refresh: Duration,
    pub retry: Duration,
    /// Before a removed grantor may come back.
    pub rejoin: Duration,
    pub rank_step: Duration,
    pub moves_window: Duration,
}

impl Timing {
    pub(crate) fn new(
        lease: Duration,
        grace: Duration,
        registry_lease: Duration,
        hold_max: Duration,
        lateness: Duration,
    ) -> Self {
        Self {
            lease,
            grace,
            registry_lease,
            registry_grace: shortest_grace(registry_lease, lateness).max(registry_lease * 11 / 10),
            hold_max,
            hold_grace: shortest_grace(hold_max, lateness).max(hold_max * 11 / 10),
            heartbeat: lease / BEATS_PER_LEASE,
            silence: lease / SILENCES_PER_LEASE,
            renew: registry_lease / WRITES_PER_LEASE,
            refresh: hold_max / WRITES_PER_LEASE,
            retry: lease / RETRIES_PER_LEASE,
            rejoin: registry_lease,
            rank_step: RANK_STEP,
            moves_window: MOVES_WINDOW,
        }
    }
}
