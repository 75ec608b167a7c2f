//! What outlives a table: one object per app and per endpoint, found again at every compilation.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use healthcheck::HealthCell;
use healthcheck::outlier::{Cause, EjectionCell, Streak};
use smallvec::SmallVec;

use super::limits::Load;
use super::standing::Stage;
use super::tally::Tally;
use crate::balance::Tag;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Unique in this process.
pub fn fresh_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// An app's state across tables.
#[derive(Debug, Default)]
pub struct AppLive {
    /// Grows whenever the set of endpoints that may be picked could have changed without a new table.
    pub generation: AtomicU64,
    /// Requests that the split has placed so far.
    pub split_cursor: AtomicU64,
    /// Copies of other apps' requests that it has placed so far.
    pub mirror_cursor: AtomicU64,
    /// Endpoints that were ejected so far, in the order of [`Cause::ALL`]. Only the control plane writes it.
    ejections: [AtomicU64; Cause::ALL.len()],
    /// A [`Stage`], as it was seen last. Whoever takes turns counts anew.
    stage: AtomicU8,
    /// Held by who finds out about the stage and notes it.
    looking: Mutex<()>,
}

impl AppLive {
    /// The one before.
    pub fn note_stage(&self, stage: Stage) -> Stage {
        Stage::from_u8(self.stage.swap(stage as u8, Ordering::Relaxed))
    }

    /// One at a time.
    pub fn looking(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it was noted last.
    pub fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Relaxed))
    }

    /// Makes every worker look at the health of this app's endpoints again.
    pub fn health_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub fn count_ejection(&self, cause: Cause) {
        self.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn ejections(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().map(|cause| (cause, self.ejections[cause as usize].load(Ordering::Relaxed)))
    }
}

/// An endpoint's state across tables: kept as long as its instance keeps its address.
#[derive(Debug)]
pub struct EndpointLive {
    pub id: u64,
    pub health: Arc<HealthCell>,
    pub ejection: EjectionCell,
    pub streak: Streak,
    /// What its requests came to, where somebody compares.
    pub tally: OnceLock<Tally>,
    /// What it has to do, where its app limits that or balances by it.
    pub load: OnceLock<Box<Load>>,
    /// What cookies name it by, where its app is sticky.
    pub tags: OnceLock<Box<SmallVec<[Tag; 2]>>>,
    /// When it last began to take traffic, in nanoseconds of [`uptime`].
    serving_since: AtomicU64,
}

impl EndpointLive {
    pub fn new() -> Self {
        Self {
            id: fresh_id(),
            health: Arc::new(HealthCell::new()),
            ejection: EjectionCell::default(),
            streak: Streak::default(),
            tally: OnceLock::new(),
            load: OnceLock::new(),
            tags: OnceLock::new(),
            serving_since: AtomicU64::new(nanos(uptime())),
        }
    }

    /// Whether requests may go there: two relaxed loads.
    pub fn is_available(&self) -> bool {
        self.health.is_up() && !self.ejection.is_out()
    }

    /// The word in reports and metric labels. A probe's "no" outlasts an ejection, so it comes first.
    pub fn state(&self) -> &'static str {
        let health = self.health.state();
        if health.is_up() && self.ejection.is_out() { "ejected" } else { health.as_str() }
    }

    /// It was out, and takes traffic again from now on.
    pub fn returned(&self) {
        self.serving_since.store(nanos(uptime()), Ordering::Relaxed);
    }

    /// How long it has been taking traffic.
    pub fn serving_for(&self) -> Duration {
        uptime().saturating_sub(Duration::from_nanos(self.serving_since.load(Ordering::Relaxed)))
    }
}

impl Default for EndpointLive {
    fn default() -> Self {
        Self::new()
    }
}

/// Time on a clock that all threads share, so that moments fit into atomics.
pub fn uptime() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Enough for 584 years.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a hundred thousand, of most of which nobody limits, compares or ejects anything.
    #[test]
    fn an_endpoint_without_a_past_is_small() {
        assert!(size_of::<EndpointLive>() <= 112, "{}", size_of::<EndpointLive>());
    }
}
