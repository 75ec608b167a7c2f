//! A worker's turns among those that are asked first, and among those that are asked where they have nobody.

use std::cell::LazyCell;
use std::time::Duration;

use smallvec::SmallVec;
use topology::Balance;

use super::admission::Wanted;
use super::deadlines::TICK;
use super::request_ids::random;
use super::rotations::Rotations;
use crate::balance::{Candidate, Candidates, Chooser, Member, SmoothRotation};
use crate::table::live::uptime;
use crate::table::{CompiledApp, Place, Pool, PooledEndpoint, Rank, Ranks};

/// Candidates of one rank.
#[derive(Debug)]
pub(super) struct Tier {
    pub place: Place,
    pub has_backups: bool,
    /// Positions in the pool's list, as the rotation has them.
    eligible: Vec<u32>,
    rotation: SmoothRotation,
    /// Of apps that do not want turns. Those are taken all the same where it finds nobody.
    chooser: Option<Box<Chooser>>,
}

/// Nearly every app has one.
pub(super) type Tiers = SmallVec<[Tier; 1]>;

/// What a tier is asked for.
pub(super) struct Search<'a, T> {
    pub rotations: &'a Rotations,
    pub pool: &'a Pool,
    pub wanted: Wanted<'a>,
    pub tried: &'a [u64],
    /// Whether those that have just refused a connection are passed over.
    pub trusts: bool,
    pub take: T,
}

impl Tier {
    pub fn new(offset: usize) -> Self {
        Self {
            place: Place::First,
            has_backups: false,
            eligible: Vec::new(),
            rotation: SmoothRotation::starting_at(offset),
            chooser: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rotation.is_empty()
    }

    /// The position in the pool of whom the policy chooses. `is_first`: it is the request's turn here.
    #[inline]
    pub fn find(
        &mut self,
        search: &mut Search<'_, impl FnMut(&PooledEndpoint) -> bool>,
        is_first: bool,
    ) -> Option<usize> {
        let found = match self.chooser.as_ref().is_some_and(|chooser| chooser.chooses(search.wanted.key)) {
            true => self.choose(search),
            false => self.turn(search, is_first),
        };
        found.map(|position| self.eligible[position] as usize)
    }

    fn turn(
        &mut self,
        search: &mut Search<'_, impl FnMut(&PooledEndpoint) -> bool>,
        is_first: bool,
    ) -> Option<usize> {
        let Self { rotation, eligible, .. } = self;
        let pool = search.pool;
        let endpoint = |position: usize| &*pool.endpoints[eligible[position] as usize];
        if is_first {
            let next = rotation.pick()?;
            if search.may(endpoint(next)) && (search.take)(endpoint(next)) {
                return Some(next);
            }
        }
        rotation.pick_where(|at, _| search.may(endpoint(at)) && (search.take)(endpoint(at)))
    }

    /// Where the policy finds nobody that has room, whoever is next does.
    #[inline(never)]
    fn choose(&mut self, search: &mut Search<'_, impl FnMut(&PooledEndpoint) -> bool>) -> Option<usize> {
        let Self { rotation, eligible, chooser, .. } = self;
        let hashed = match &search.wanted.app.spec.balance {
            Balance::Hash(hashing) => {
                search.wanted.key.map(|key| (key, search.pool.key_table(hashing.algorithm)))
            }
            _ => None,
        };
        let now = LazyCell::new(uptime as fn() -> Duration);
        let spares = search.trusts;
        let mut field = Field { search, eligible, now: &now };
        let chosen = chooser.as_mut().and_then(|chooser| chooser.choose(&mut field, hashed, spares));
        chosen.or_else(|| rotation.pick_where(|at, _| field.may(at) && field.take(at)))
    }

    fn update(&mut self, balance: &Balance, pool: &Pool, rank: Rank) {
        self.choose_by(balance, pool, &rank);
        self.rotation.update(rank.candidates.into_iter());
        (self.place, self.has_backups, self.eligible) = (rank.place, rank.has_backups, rank.eligible);
    }

    fn choose_by(&mut self, balance: &Balance, pool: &Pool, rank: &Rank) {
        if *balance == Balance::RoundRobin {
            self.chooser = None;
            return;
        }
        let member = |(candidate, position): (&Candidate, &u32)| {
            let place = *position as usize;
            let whole = u32::from(pool.endpoints[place].weight) * rank.scale;
            Member { place, weight: candidate.weight, whole }
        };
        let members: Vec<_> = rank.candidates.iter().zip(&rank.eligible).map(member).collect();
        self.chooser = self.chooser.take().or_else(|| Chooser::new(balance, random()));
        if let Some(chooser) = &mut self.chooser {
            chooser.update(balance, &members);
        }
    }
}

/// Takes the pool's endpoints as they are now; returns the tick at which somebody's weight will have grown, whatever the
/// stamp says.
pub(super) fn refresh(
    tiers: &mut Tiers,
    app: &CompiledApp,
    pool: &Pool,
    now: u32,
    offset: usize,
) -> Option<u32> {
    let Ranks { ranks, grows_in } = pool.ranks(app);
    tiers.resize_with(ranks.len(), || Tier::new(offset));
    tiers.iter_mut().zip(ranks).for_each(|(tier, rank)| tier.update(&app.spec.balance, pool, rank));
    grows_in.map(|time| now + ticks(time))
}

/// At least one.
fn ticks(time: Duration) -> u32 {
    time.as_millis().div_ceil(TICK.as_millis()).max(1) as u32
}

impl<T> Search<'_, T> {
    fn may(&self, endpoint: &PooledEndpoint) -> bool {
        let id = endpoint.live.id;
        let is_avoided = self.trusts && self.rotations.is_suspect(id);
        !is_avoided && !self.tried.contains(&id)
    }
}

/// Whom a policy may choose for one request.
struct Field<'a, 's, T> {
    search: &'a mut Search<'s, T>,
    eligible: &'a [u32],
    now: &'a LazyCell<Duration>,
}

impl<T> Field<'_, '_, T> {
    fn endpoint(&self, position: usize) -> &PooledEndpoint {
        &self.search.pool.endpoints[self.eligible[position] as usize]
    }
}

impl<T: FnMut(&PooledEndpoint) -> bool> Candidates for Field<'_, '_, T> {
    fn may(&self, position: usize) -> bool {
        self.search.may(self.endpoint(position))
    }

    fn in_flight(&self, position: usize) -> u32 {
        self.endpoint(position).counted().map_or(0, |load| load.in_flight.used())
    }

    fn cost(&self, position: usize, share: f64) -> f64 {
        let balance = &self.search.wanted.app.spec.balance;
        let (Balance::PeakEwma { decay }, Some(load)) = (balance, self.endpoint(position).counted()) else {
            return 0.0;
        };
        load.latency.cost(load.in_flight.used(), share, **self.now, *decay)
    }

    fn take(&mut self, position: usize) -> bool {
        let endpoint = &self.search.pool.endpoints[self.eligible[position] as usize];
        (self.search.take)(endpoint)
    }
}
