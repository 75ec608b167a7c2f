//! Who is asked first, and who only where those have nobody: nearer endpoints, farther ones, backups.

use std::cell::LazyCell;
use std::time::Duration;

use smallvec::SmallVec;
use topology::{AppSpec, Balance};

use super::admission::Wanted;
use super::deadlines::TICK;
use super::request_ids::random;
use super::rotations::Rotations;
use crate::balance::zones::{self, Zoned};
use crate::balance::{Candidate, Candidates, Chooser, Member, SmoothRotation, slow_start};
use crate::table::live::uptime;
use crate::table::{Nearness, Pool, PooledEndpoint};

/// Candidates of one rank.
#[derive(Debug)]
pub(super) struct Tier {
    /// Whether it is asked only where nobody else can be, and not where the others merely have no room.
    pub is_backup: bool,
    /// Positions in the pool's list, as the rotation has them.
    eligible: Vec<u32>,
    rotation: SmoothRotation,
    /// Of apps that do not want turns. Those are taken all the same where it finds nobody.
    chooser: Option<Box<Chooser>>,
}

/// Nearly every app has one.
pub(super) type Tiers = SmallVec<[Tier; 1]>;

/// Who is to be in a tier.
struct Rank {
    is_backup: bool,
    eligible: Vec<u32>,
    candidates: Vec<Candidate>,
    /// What candidates' weights are multiplied by where nothing lessens them.
    scale: u32,
}

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
            is_backup: false,
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
        (self.eligible, self.is_backup) = (rank.eligible, rank.is_backup);
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
    pool: &Pool,
    spec: &AppSpec,
    now: u32,
    offset: usize,
) -> Option<u32> {
    let ranks = pool.ranks();
    let (mut first, mut stale_at) = weigh(pool, spec, ranks.first, ranks.are_backups, now);
    // A key belongs to one endpoint for gateways of all zones.
    let far = match &spec.balance {
        Balance::Hash(_) => None,
        _ => by_zone(pool, &mut first),
    };
    let backups = (!ranks.backups.is_empty()).then(|| {
        let (backups, stale) = weigh(pool, spec, ranks.backups, true, now);
        stale_at = [stale_at, stale].into_iter().flatten().min();
        backups
    });
    let ranks: SmallVec<[Rank; 3]> = [Some(first), far, backups].into_iter().flatten().collect();
    tiers.resize_with(ranks.len(), || Tier::new(offset));
    tiers.iter_mut().zip(ranks).for_each(|(tier, rank)| tier.update(&spec.balance, pool, rank));
    stale_at
}

fn weigh(pool: &Pool, spec: &AppSpec, eligible: Vec<u32>, is_backup: bool, now: u32) -> (Rank, Option<u32>) {
    let (ramp, mut stale_at) = (spec.slow_start(), None);
    let candidate = |position: &u32| {
        let endpoint = &pool.endpoints[*position as usize];
        let mut weight = u32::from(endpoint.weight);
        if let Some(ramp) = ramp {
            let share = slow_start::share(endpoint.live.serving_for(), ramp);
            if share < slow_start::WHOLE {
                stale_at = Some(now + ticks(slow_start::step(ramp)));
            }
            weight *= share;
        }
        Candidate { id: endpoint.live.id, weight }
    };
    let candidates = eligible.iter().map(candidate).collect();
    let scale = if ramp.is_some() { slow_start::WHOLE } else { 1 };
    (Rank { is_backup, eligible, candidates, scale }, stale_at)
}

/// Lessens the weights of those in other zones; those that are left with none are asked where the others have nobody.
fn by_zone(pool: &Pool, rank: &mut Rank) -> Option<Rank> {
    let endpoint = |position: &u32| &pool.endpoints[*position as usize];
    if !rank.eligible.iter().any(|position| endpoint(position).nearness == Nearness::Own) {
        return None;
    }
    let zoned = |(position, candidate): (&u32, &Candidate)| Zoned {
        zone: endpoint(position).zone.as_deref(),
        is_own: endpoint(position).nearness == Nearness::Own,
        weight: candidate.weight.into(),
    };
    let candidates: Vec<_> = rank.eligible.iter().zip(&rank.candidates).map(zoned).collect();
    let factors = zones::factors(&candidates, pool.zones())?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    let is_split = factors.iter().any(|factor| !matches!(factor, 0 | &zones::WHOLE));
    for ((position, candidate), factor) in rank.eligible.iter().zip(&rank.candidates).zip(factors) {
        match factor {
            0 => far.push((*position, *candidate)),
            factor => {
                let factor = if is_split { factor } else { 1 };
                near.push((*position, Candidate { weight: candidate.weight * factor, ..*candidate }));
            }
        }
    }
    let scale = rank.scale;
    (rank.eligible, rank.candidates) = near.into_iter().unzip();
    rank.scale = if is_split { scale * zones::WHOLE } else { scale };
    let (eligible, candidates): (Vec<_>, Vec<_>) = far.into_iter().unzip();
    (!eligible.is_empty()).then_some(Rank { is_backup: rank.is_backup, eligible, candidates, scale })
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
