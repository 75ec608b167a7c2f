//! From endpoint to endpoint: whom a request goes to, whom it goes to when that fails, and how long it waits
//! before. Rule: only what cannot be done twice is repeated, never at an endpoint that has failed it, and
//! within the app's budget; see docs/decisions/0010.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use smallvec::SmallVec;
use topology::{Backoff, RetryCause};

use super::client::Client;
use super::facts::Outcome;
use super::feedback;
use super::sticky::Returning;
use super::wire::Wire;
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Spread};
use crate::worker::request_ids::random;
use crate::worker::{Admitted, NoOther, Places, Wanted, Worker};

/// Most apps try as many, see [`topology::Retries::DEFAULT`].
const USUAL_ATTEMPTS: usize = 3;

/// The endpoints of one request or connection.
#[derive(Debug)]
pub struct Route<'a> {
    worker: &'a Worker,
    app: &'a CompiledApp,
    spread: &'a Spread,
    turn: usize,
    key: Option<u64>,
    /// See [`Wanted::home`].
    home: Option<&'a Arc<PooledEndpoint>>,
    tried: SmallVec<[u64; USUAL_ATTEMPTS]>,
    /// What it holds of its tenant, its app and its endpoints.
    places: Places,
}

impl<'a> Route<'a> {
    /// `cursor` counts the turns of `spread`; `key`: see [`Wanted::key`].
    pub fn new(
        worker: &'a Worker,
        app: &'a CompiledApp,
        (spread, cursor): (&'a Spread, &AtomicU64),
        key: Option<u64>,
    ) -> Self {
        Self {
            worker,
            app,
            spread,
            turn: spread.next_turn(cursor),
            key,
            home: None,
            tried: SmallVec::new(),
            places: Places::default(),
        }
    }

    /// Of a request whose client has been here before, maybe. Its version is where it was, so the split decides
    /// over new clients only, and its turns are theirs.
    pub fn returning(
        worker: &'a Worker,
        app: &'a CompiledApp,
        (spread, cursor): (&'a Spread, &AtomicU64),
        (key, returning): (Option<u64>, Option<&'a Returning>),
    ) -> Self {
        let Some(home) = returning.and_then(|returning| returning.home(spread)) else {
            return Self::new(worker, app, (spread, cursor), key);
        };
        let (tried, places) = (SmallVec::new(), Places::default());
        Self { worker, app, spread, turn: home.turn, key, home: home.endpoint, tried, places }
    }

    /// What to ask for at first.
    pub fn wanted(&self) -> Wanted<'a> {
        Wanted { app: self.app, spread: self.spread, turn: self.turn, key: self.key, home: self.home }
    }

    /// Holds what was asked for; returns the first endpoint.
    pub fn begin(&mut self, admitted: Admitted) -> Arc<PooledEndpoint> {
        self.tried.push(admitted.endpoint.live.id);
        self.count(&admitted.endpoint);
        self.places = admitted.places;
        admitted.endpoint
    }

    /// For what goes on without a way to anybody else.
    pub fn into_places(self) -> Places {
        self.places
    }

    /// The endpoint is asked no more.
    pub fn leave(&mut self, endpoint: &PooledEndpoint) {
        self.places.leave(endpoint.live.id);
    }

    /// Attempts after the first one.
    pub fn retries(&self) -> u32 {
        (self.tried.len() as u32).saturating_sub(1)
    }

    /// Whom to ask after `last` has failed by `cause`, if anybody.
    ///
    /// A kept connection that its endpoint had just closed says nothing against the endpoint: where there is
    /// no other, a new connection to it gets the second attempt. That is RFC 9112 section 9.3.1's retry, not
    /// a second try of an endpoint that failed.
    pub fn next(
        &mut self,
        cause: RetryCause,
        last: &Arc<PooledEndpoint>,
        was_kept: bool,
    ) -> Option<Arc<PooledEndpoint>> {
        if !self.app.spec.retries().on.contains(cause) {
            return None;
        }
        let is_stale = was_kept && cause == RetryCause::Reset && self.tried.len() == 1;
        let next = match self.other() {
            Err(NoOther::Nobody) if is_stale => self.again(last),
            found => found,
        };
        if next.as_ref().is_ok_and(|next| next.live.id != last.live.id) {
            self.leave(last);
        }
        let cells = last.metrics.cells(self.worker.index);
        match next {
            Ok(_) => cells.retries[cause as usize].increment(),
            Err(NoOther::OverBudget) => cells.retries_over_budget.increment(),
            Err(NoOther::Nobody) => {}
        }
        next.ok()
    }

    /// Whom to ask beside `last`, which has not failed.
    pub fn beside(&mut self, last: &PooledEndpoint) -> Option<Arc<PooledEndpoint>> {
        let other = self.other();
        if matches!(other, Err(NoOther::OverBudget)) {
            last.metrics.cells(self.worker.index).retries_over_budget.increment();
        }
        other.ok()
    }

    /// Remembers what an attempt that is over says of its endpoint.
    pub fn observe(&self, outcome: &Outcome) {
        feedback::observe(self.worker, self.app, outcome);
        if matches!(outcome.failure, Some(Reason::ConnectFailed | Reason::ConnectTimeout)) {
            self.worker.rotations.suspect(outcome.endpoint.live.id);
        }
    }

    /// Another endpoint has answered before this one, which was asked earlier.
    pub fn observe_overtaken(&self, outcome: &Outcome) {
        feedback::observe_overtaken(self.worker, self.app, outcome);
    }

    /// How long to wait before the attempt that [`Self::next`] has found; `None`: not at all.
    pub fn backoff(&self) -> Option<Duration> {
        let backoff = self.app.spec.retries().backoff?;
        Some(jittered(backoff, self.retries(), random()))
    }

    fn other(&mut self) -> Result<Arc<PooledEndpoint>, NoOther> {
        if self.tried.len() >= usize::from(self.app.spec.retries().attempts) {
            return Err(NoOther::Nobody);
        }
        let other = self.worker.enter_again(self.wanted(), &self.tried, &mut self.places)?;
        self.tried.push(other.live.id);
        self.count(&other);
        Ok(other)
    }

    fn count(&self, endpoint: &PooledEndpoint) {
        endpoint.metrics.cells(self.worker.index).zones[endpoint.nearness as usize].increment();
    }

    fn again(&mut self, last: &Arc<PooledEndpoint>) -> Result<Arc<PooledEndpoint>, NoOther> {
        if !self.worker.rotations.pay_retry(self.wanted()) {
            return Err(NoOther::OverBudget);
        }
        self.tried.push(last.live.id);
        Ok(last.clone())
    }
}

/// "Full jitter": any time up to one that doubles with every retry, counted from 1. Requests that failed
/// together do not come back together.
fn jittered(backoff: Backoff, retry: u32, random: u64) -> Duration {
    let doubled = backoff.base.saturating_mul(1 << retry.saturating_sub(1).min(16));
    let most = doubled.min(backoff.max).as_micros() as u64;
    Duration::from_micros(random % (most + 1))
}

/// Waits before the next attempt, without holding a buffer.
///
/// # Errors
/// The reason to wait no longer: the client has gone, the gateway stops, or the whole request has had its time.
pub async fn pause<W: Wire>(client: &mut Client<W>, time: Duration) -> Result<(), Reason> {
    client.deadline.clear();
    let mut waiting = pin!(tokio::time::sleep(time));
    let mut watches_client = true;
    poll_fn(|context| {
        if client.is_aborting() {
            return Poll::Ready(Err(Reason::Shutdown));
        }
        if client.deadline.has_passed() {
            return Poll::Ready(Err(Reason::RequestTimeout));
        }
        if watches_client {
            match client.wire.poll_gone(context) {
                Poll::Ready(true) => return Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Ready(false) => watches_client = false,
                Poll::Pending => {}
            }
        }
        waiting.as_mut().poll(context).map(Ok)
    })
    .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_grow_to_their_most() {
        let backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(35) };
        let longest = |retry| (0..100_000).map(|random| jittered(backoff, retry, random)).max();
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!([1, 2, 3, 9].map(longest), [millis(10), millis(20), millis(35), millis(35)]);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_allowed(base in 1_u64..10_000, more in 0_u64..10_000, retry: u32, random: u64) {
            let (base, max) = (Duration::from_millis(base), Duration::from_millis(base + more));
            let backoff = Backoff { base, max };
            prop_assert!(jittered(backoff, retry, random) <= max);
        }
    }
}
