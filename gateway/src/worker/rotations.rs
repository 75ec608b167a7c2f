//! A worker's place in every rotation, and whom it has just seen refuse.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::admission::Wanted;
use super::deadlines::{Deadlines, TICK};
use super::retries::RetryBudget;
use super::tiers::{self, Search, Tier, Tiers};
use crate::table::{CompiledApp, Place, Pool, PooledEndpoint};

/// How long a worker avoids an endpoint that refused a connection, if it has another: long enough that
/// retries stay rare until the probes decide, short enough that a restart is not noticed.
const SUSPECT_TICKS: u32 = (1_000 / TICK.as_millis()) as u32;
/// Rotations that nobody has used for this long are forgotten.
const FORGET_TICKS: u32 = (600_000 / TICK.as_millis()) as u32;
/// Thirteen years of ticks.
const NEVER: u32 = u32::MAX;

/// Why a request that failed goes nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoOther {
    /// It has been to every endpoint that may take traffic.
    Nobody,
    /// There is one, and too many requests have been repeated lately.
    OverBudget,
}

#[derive(Debug)]
struct View {
    stamp: (u64, u64),
    /// In the order in which they are asked; at least one.
    tiers: Tiers,
    /// One app's dead endpoints do not use up another one's retries.
    retries: RetryBudget,
    used: u32,
    /// When somebody's weight will have grown, whatever the stamp says.
    stale_at: u32,
}

/// What a request finds that needs room at its endpoint.
#[derive(Debug)]
pub enum Pick {
    Free(Arc<PooledEndpoint>),
    /// Somebody may be asked, and nobody has room.
    Full,
    /// Nobody may be asked.
    Nobody,
}

#[derive(Debug)]
pub struct Rotations {
    views: RefCell<HashMap<u64, View, FixedState>>,
    suspects: RefCell<HashMap<u64, u32, FixedState>>,
    deadlines: Rc<Deadlines>,
    /// So that not every worker starts with the same endpoint.
    offset: usize,
}

impl Rotations {
    pub fn new(deadlines: Rc<Deadlines>, offset: usize) -> Self {
        Self { views: RefCell::default(), suspects: RefCell::default(), deadlines, offset }
    }

    /// The endpoint for a request whose turn it is: where its client was before, or of that version, or of any other
    /// that has somebody.
    pub fn pick(&self, wanted: Wanted<'_>) -> Option<Arc<PooledEndpoint>> {
        if let Some(home) = self.home(wanted, |_| true) {
            return Some(home);
        }
        let Wanted { app, spread, turn, .. } = wanted;
        spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                view.retries.deposit(self.deadlines.now());
                self.find(view, pool, wanted, &[], |_| true)
            })
        })
    }

    /// Another endpoint for a request that has been to those in `tried`, if the app's budget allows.
    ///
    /// # Errors
    /// [`NoOther`].
    pub fn pick_again(&self, wanted: Wanted<'_>, tried: &[u64]) -> Result<Arc<PooledEndpoint>, NoOther> {
        let Wanted { app, spread, turn, .. } = wanted;
        let mut why = NoOther::Nobody;
        let found = spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                let endpoint = self.find(view, pool, wanted, tried, |_| true)?;
                if view.retries.withdraw(self.deadlines.now()) {
                    return Some(endpoint);
                }
                why = NoOther::OverBudget;
                None
            })
        });
        found.ok_or(why)
    }

    /// Whether the budget allows a retry that needs no other endpoint; it is then paid for.
    pub fn pay_retry(&self, Wanted { app, spread, turn, .. }: Wanted<'_>) -> bool {
        let pays = |pool| self.view(app, pool, |view| view.retries.withdraw(self.deadlines.now()));
        spread.choose(turn).next().is_some_and(pays)
    }

    /// A request was placed that nobody had to choose an endpoint for.
    pub(super) fn deposit(&self, Wanted { app, spread, turn, .. }: Wanted<'_>) {
        if let Some(pool) = spread.choose(turn).next() {
            self.view(app, pool, |view| view.retries.deposit(self.deadlines.now()));
        }
    }

    /// Whether backups are among those who are asked first.
    pub(super) fn has_turned_to_backups(&self, Wanted { app, spread, turn, .. }: Wanted<'_>) -> bool {
        let has_turned = |view: &mut View| view.tiers.first().is_some_and(|tier| tier.has_backups);
        spread.choose(turn).next().is_some_and(|pool| self.view(app, pool, has_turned))
    }

    /// As [`Self::pick`], or for a request that has been to those in `tried` as [`Self::pick_again`] but for the
    /// budget, among endpoints that `take` lets have one more request. The turn is the first one's, so
    /// shares are kept as far as there is room.
    pub fn pick_free(
        &self,
        wanted: Wanted<'_>,
        tried: &[u64],
        mut take: impl FnMut(&PooledEndpoint) -> bool,
    ) -> Pick {
        if tried.is_empty()
            && let Some(home) = self.home(wanted, &mut take)
        {
            return Pick::Free(home);
        }
        let mut is_anybody_there = false;
        let Wanted { app, spread, turn, .. } = wanted;
        let free = spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                is_anybody_there |= view.tiers.iter().any(|tier| !tier.is_empty());
                let endpoint = self.find(view, pool, wanted, tried, &mut take)?;
                if tried.is_empty() {
                    view.retries.deposit(self.deadlines.now());
                }
                Some(endpoint)
            })
        });
        match free {
            Some(endpoint) => Pick::Free(endpoint),
            None if is_anybody_there => Pick::Full,
            None => Pick::Nobody,
        }
    }

    /// Whom the app's policy chooses: among those that are trusted, then among all that were not tried yet; of each
    /// tier in its order.
    fn find(
        &self,
        view: &mut View,
        pool: &Pool,
        wanted: Wanted<'_>,
        tried: &[u64],
        mut take: impl FnMut(&PooledEndpoint) -> bool,
    ) -> Option<Arc<PooledEndpoint>> {
        let is_full = Cell::new(false);
        let take = |endpoint: &PooledEndpoint| {
            let has_room = take(endpoint);
            is_full.set(is_full.get() || !has_room);
            has_room
        };
        let mut search = Search { rotations: self, pool, wanted, tried, trusts: true, take };
        for trusts in [true, false] {
            search.trusts = trusts;
            for tier in &mut view.tiers {
                // Who has no room now will have some: that is what queues are for.
                if tier.place == Place::Backups && is_full.get() {
                    break;
                }
                let is_first = trusts && tier.place == Place::First && tried.is_empty();
                if let Some(position) = tier.find(&mut search, is_first) {
                    return Some(pool.endpoints[position].clone());
                }
            }
        }
        None
    }

    /// This worker's view of `pool`, as healthy as it is now.
    fn view<T>(&self, app: &CompiledApp, pool: &Pool, work: impl FnOnce(&mut View) -> T) -> T {
        let mut views = self.views.borrow_mut();
        let view = views.entry(pool.id).or_insert_with(|| View {
            stamp: (0, 0),
            tiers: Tiers::from_iter([Tier::new(self.offset)]),
            retries: RetryBudget::new(app.spec.retries().budget, self.deadlines.now()),
            used: 0,
            stale_at: NEVER,
        });
        let (stamp, now) = (pool.stamp(&app.live), self.deadlines.now());
        if view.stamp != stamp || now >= view.stale_at {
            let changes_at = tiers::refresh(&mut view.tiers, app, pool, now, self.offset);
            (view.stamp, view.stale_at) = (stamp, changes_at.unwrap_or(NEVER));
            view.retries.agree(app.spec.retries().budget, now);
        }
        view.used = now;
        work(view)
    }

    /// `endpoint` refused a connection: others are preferred for a moment.
    pub fn suspect(&self, endpoint: u64) {
        self.suspects.borrow_mut().insert(endpoint, self.deadlines.now() + SUSPECT_TICKS);
    }

    pub(super) fn is_suspect(&self, endpoint: u64) -> bool {
        let suspects = self.suspects.borrow();
        !suspects.is_empty() && suspects.get(&endpoint).is_some_and(|until| self.deadlines.now() < *until)
    }

    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.suspects.borrow_mut().retain(|_, until| now < *until);
        self.views.borrow_mut().retain(|_, view| now - view.used < FORGET_TICKS);
    }
}
