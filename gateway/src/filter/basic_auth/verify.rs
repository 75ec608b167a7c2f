//! Slow hashes, computed beside the workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{Cache, Claim};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Too many wait already.
    Busy,
}

/// Half of the cores: whoever sends passwords must leave the workers enough.
static THREADS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((cores / 2).max(1))
});
/// At 50 ms each that is 3 s of waiting for one thread; whoever comes later is told to come again.
const MAX_WAITING: usize = 64;
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// One who waits, until dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let place = Self;
        (WAITING.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the password fits the hash; remembered in `cache`.
pub async fn verify(claim: Arc<Claim>, cache: Arc<Cache>) -> Verdict {
    let Some(place) = Place::take() else { return Verdict::Busy };
    let Ok(permit) = THREADS.acquire().await else { return Verdict::Busy };
    let computed = tokio::task::spawn_blocking(move || {
        // Held until the work is done, even where nobody waits for it any more.
        let _held = (place, permit);
        let is_right = bcrypt::verify(&*claim.password, &claim.hash).unwrap_or(false);
        cache.remember(&claim, is_right, Instant::now());
        is_right
    });
    match computed.await {
        Ok(true) => Verdict::Right,
        Ok(false) => Verdict::Wrong,
        Err(_) => Verdict::Busy,
    }
}
