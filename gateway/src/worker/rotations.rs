//! A worker's place in every rotation, and whom it has just seen refuse.

use std::cell::{LazyCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use topology::Balance;

use super::admission::Wanted;
use super::deadlines::{Deadlines, TICK};
use super::request_ids::random;
use super::retries::RetryBudget;
use crate::balance::{Candidate, Candidates, Chooser, Member, SmoothRotation, slow_start};
use crate::table::live::uptime;
use crate::table::{CompiledApp, Pool, PooledEndpoint};

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
    /// Positions in the pool's list, as the rotation has them.
    eligible: Vec<u32>,
    rotation: SmoothRotation,
    /// Of apps that do not want turns. Those are taken all the same where it finds nobody.
    chooser: Option<Box<Chooser>>,
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

    /// The endpoint for a request whose turn it is: of that version first, then of any other that has
    /// somebody.
    pub fn pick(&self, wanted: Wanted<'_>) -> Option<Arc<PooledEndpoint>> {
        let Wanted { app, spread, turn, key } = wanted;
        spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                view.retries.deposit(self.deadlines.now());
                if view.chooses(key) {
                    let position = self.choose(view, pool, wanted, &[], |_| true)?;
                    return Some(view.endpoint(pool, position));
                }
                let position = view.rotation.pick()?;
                let is_suspect = |id| self.is_suspect(id);
                let other = is_suspect(view.id(pool, position)).then(|| view.rotation.pick_other(is_suspect));
                Some(view.endpoint(pool, other.flatten().unwrap_or(position)))
            })
        })
    }

    /// Another endpoint for a request that has been to those in `tried`, if the app's budget allows.
    ///
    /// # Errors
    /// [`NoOther`].
    pub fn pick_again(&self, wanted: Wanted<'_>, tried: &[u64]) -> Result<Arc<PooledEndpoint>, NoOther> {
        let Wanted { app, spread, turn, key } = wanted;
        let mut why = NoOther::Nobody;
        let found = spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                let position = if view.chooses(key) {
                    self.choose(view, pool, wanted, tried, |_| true)?
                } else {
                    let is_tried = |id: u64| tried.contains(&id);
                    let other = view.rotation.pick_other(|id| is_tried(id) || self.is_suspect(id));
                    other.or_else(|| view.rotation.pick_other(is_tried))?
                };
                if view.retries.withdraw(self.deadlines.now()) {
                    return Some(view.endpoint(pool, position));
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

    /// As [`Self::pick`], or for a request that has been to those in `tried` as [`Self::pick_again`] but for the
    /// budget, among endpoints that `take` lets have one more request. The turn is the first one's, so
    /// shares are kept as far as there is room.
    pub fn pick_free(
        &self,
        wanted: Wanted<'_>,
        tried: &[u64],
        mut take: impl FnMut(&PooledEndpoint) -> bool,
    ) -> Pick {
        let mut is_anybody_there = false;
        let Wanted { app, spread, turn, key } = wanted;
        let free = spread.choose(turn).find_map(|pool| {
            self.view(app, pool, |view| {
                is_anybody_there |= !view.rotation.is_empty();
                let position = if view.chooses(key) {
                    self.choose(view, pool, wanted, tried, &mut take)?
                } else {
                    self.find_free(view, pool, tried, &mut take)?
                };
                if tried.is_empty() {
                    view.retries.deposit(self.deadlines.now());
                }
                Some(view.endpoint(pool, position))
            })
        });
        match free {
            Some(endpoint) => Pick::Free(endpoint),
            None if is_anybody_there => Pick::Full,
            None => Pick::Nobody,
        }
    }

    fn find_free(
        &self,
        view: &mut View,
        pool: &Pool,
        tried: &[u64],
        take: &mut impl FnMut(&PooledEndpoint) -> bool,
    ) -> Option<usize> {
        let View { rotation, eligible, .. } = view;
        let endpoint = |position: usize| &*pool.endpoints[eligible[position] as usize];
        if tried.is_empty() {
            let first = rotation.pick()?;
            if !self.is_suspect(endpoint(first).live.id) && take(endpoint(first)) {
                return Some(first);
            }
        }
        let is_new = |id| !tried.contains(&id);
        let trusted = rotation.pick_where(|at, id| is_new(id) && !self.is_suspect(id) && take(endpoint(at)));
        trusted.or_else(|| rotation.pick_where(|at, id| is_new(id) && take(endpoint(at))))
    }

    /// Whom the app's policy chooses: among those that are trusted, then among all that were not tried yet. Where it
    /// finds nobody that has room, whoever is next does.
    #[inline(never)]
    fn choose(
        &self,
        view: &mut View,
        pool: &Pool,
        wanted: Wanted<'_>,
        tried: &[u64],
        mut take: impl FnMut(&PooledEndpoint) -> bool,
    ) -> Option<usize> {
        let View { rotation, eligible, chooser, .. } = view;
        let balance = &wanted.app.spec.balance;
        let hashed = wanted.key.map(|key| (key, pool.maglev()));
        let now = LazyCell::new(uptime as fn() -> Duration);
        for trusts in [true, false] {
            let take = &mut take;
            let mut field =
                Field { rotations: self, pool, eligible, balance, tried, trusts, now: &now, take };
            let chosen = chooser.as_mut().and_then(|chooser| chooser.choose(&mut field, hashed, trusts));
            let found = chosen.or_else(|| rotation.pick_where(|at, _| field.may(at) && field.take(at)));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// This worker's view of `pool`, as healthy as it is now.
    fn view<T>(&self, app: &CompiledApp, pool: &Pool, work: impl FnOnce(&mut View) -> T) -> T {
        let mut views = self.views.borrow_mut();
        let view = views.entry(pool.id).or_insert_with(|| View {
            stamp: (0, 0),
            eligible: Vec::new(),
            rotation: SmoothRotation::starting_at(self.offset),
            chooser: None,
            retries: RetryBudget::new(app.spec.retries().budget, self.deadlines.now()),
            used: 0,
            stale_at: NEVER,
        });
        let (stamp, now) = (pool.stamp(&app.live), self.deadlines.now());
        if view.stamp != stamp || now >= view.stale_at {
            view.refresh(app, pool, stamp, now);
            view.retries.agree(app.spec.retries().budget, now);
        }
        view.used = now;
        work(view)
    }

    /// `endpoint` refused a connection: others are preferred for a moment.
    pub fn suspect(&self, endpoint: u64) {
        self.suspects.borrow_mut().insert(endpoint, self.deadlines.now() + SUSPECT_TICKS);
    }

    fn is_suspect(&self, endpoint: u64) -> bool {
        let suspects = self.suspects.borrow();
        !suspects.is_empty() && suspects.get(&endpoint).is_some_and(|until| self.deadlines.now() < *until)
    }

    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.suspects.borrow_mut().retain(|_, until| now < *until);
        self.views.borrow_mut().retain(|_, view| now - view.used < FORGET_TICKS);
    }
}

/// Whom a policy may choose for one request.
struct Field<'a, T> {
    rotations: &'a Rotations,
    pool: &'a Pool,
    eligible: &'a [u32],
    balance: &'a Balance,
    tried: &'a [u64],
    /// Whether those that have just refused a connection are passed over.
    trusts: bool,
    now: &'a LazyCell<Duration>,
    take: &'a mut T,
}

impl<T> Field<'_, T> {
    fn endpoint(&self, position: usize) -> &PooledEndpoint {
        &self.pool.endpoints[self.eligible[position] as usize]
    }
}

impl<T: FnMut(&PooledEndpoint) -> bool> Candidates for Field<'_, T> {
    fn may(&self, position: usize) -> bool {
        let id = self.endpoint(position).live.id;
        let is_avoided = self.trusts && self.rotations.is_suspect(id);
        !is_avoided && !self.tried.contains(&id)
    }

    fn in_flight(&self, position: usize) -> u32 {
        self.endpoint(position).counted().map_or(0, |load| load.in_flight.used())
    }

    fn cost(&self, position: usize, share: f64) -> f64 {
        let (Balance::PeakEwma { decay }, Some(load)) = (self.balance, self.endpoint(position).counted())
        else {
            return 0.0;
        };
        load.latency.cost(load.in_flight.used(), share, **self.now, *decay)
    }

    fn take(&mut self, position: usize) -> bool {
        (self.take)(&self.pool.endpoints[self.eligible[position] as usize])
    }
}

impl View {
    /// Whether the app's policy has a say; turns have it otherwise.
    fn chooses(&self, key: Option<u64>) -> bool {
        self.chooser.as_ref().is_some_and(|chooser| chooser.chooses(key))
    }

    fn endpoint(&self, pool: &Pool, position: usize) -> Arc<PooledEndpoint> {
        pool.endpoints[self.eligible[position] as usize].clone()
    }

    fn id(&self, pool: &Pool, position: usize) -> u64 {
        pool.endpoints[self.eligible[position] as usize].live.id
    }

    fn refresh(&mut self, app: &CompiledApp, pool: &Pool, stamp: (u64, u64), now: u32) {
        let spec = &app.spec;
        let ramp = spec.slow_start();
        self.eligible = pool.eligible(app.panics());
        self.stale_at = NEVER;
        // Health may turn between the two passes; the second one follows the first one's list.
        let mut weights = Vec::with_capacity(self.eligible.len());
        for position in &self.eligible {
            let endpoint = &pool.endpoints[*position as usize];
            let mut weight = u32::from(endpoint.weight);
            if let Some(ramp) = ramp {
                let share = slow_start::share(endpoint.live.serving_for(), ramp);
                if share < slow_start::WHOLE {
                    self.stale_at = now + ticks(slow_start::step(ramp));
                }
                weight *= share;
            }
            weights.push(Candidate { id: endpoint.live.id, weight });
        }
        self.choose_by(&spec.balance, pool, &weights, if ramp.is_some() { slow_start::WHOLE } else { 1 });
        self.rotation.update(weights.into_iter());
        self.stamp = stamp;
    }

    /// `scale`: what candidates' weights are multiplied by.
    fn choose_by(&mut self, balance: &Balance, pool: &Pool, candidates: &[Candidate], scale: u32) {
        if *balance == Balance::RoundRobin {
            self.chooser = None;
            return;
        }
        let member = |(candidate, position): (&Candidate, &u32)| {
            let place = *position as usize;
            let whole = u32::from(pool.endpoints[place].weight) * scale;
            Member { place, weight: candidate.weight, whole }
        };
        let members: Vec<_> = candidates.iter().zip(&self.eligible).map(member).collect();
        self.chooser = self.chooser.take().or_else(|| Chooser::new(balance, random()));
        if let Some(chooser) = &mut self.chooser {
            chooser.update(balance, &members);
        }
    }
}

/// At least one.
fn ticks(time: Duration) -> u32 {
    time.as_millis().div_ceil(TICK.as_millis()).max(1) as u32
}
