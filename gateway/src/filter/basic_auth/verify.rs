//! Slow hashes, computed beside the workers.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use topology::AppId;

use super::turns::Turns;
use super::{Cache, Claim};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Too many wait already.
    Busy,
}

/// Half of the cores: whoever sends passwords must leave the workers enough.
static TURNS: LazyLock<Arc<Turns>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Turns::new((cores / 2).max(1))
});

/// Whether the password fits the hash; remembered in `cache`. It is computed when it is `app`'s turn.
pub async fn verify(app: &AppId, claim: Arc<Claim>, cache: Arc<Cache>) -> Verdict {
    let Some(turn) = TURNS.take(app).await else { return Verdict::Busy };
    let computed = tokio::task::spawn_blocking(move || {
        // Held until the work is done, even where nobody waits for it any more.
        let _held = turn;
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
