//! All policies but turns: by lot, the better of two, by key.

use std::cell::OnceCell;

use smallvec::SmallVec;
use topology::Balance;

use super::draw::{Dice, Draw};
use super::hash::mix;
use super::keys::KeyTable;

/// Draws until one comes that may be asked; nginx's "random two" gives up after as many, too. Where four of five may not,
/// one request in a hundred is then placed by turns.
const DRAWS: usize = 20;
/// Places of a table that are looked at for one request. Where 99 of 100 endpoints are out, one key in 30,000 has
/// nobody among so many.
const PLACES_LOOKED_AT: usize = 1_024;
/// Endpoints that one request remembers to have passed over; it may meet others twice.
const PASSED_OVER: usize = 32;

/// What policies ask of candidates, by their positions in the list that [`Chooser::update`] was given.
pub trait Candidates {
    /// Whether it may be asked, room aside.
    fn may(&self, position: usize) -> bool;
    /// Requests under way there.
    fn in_flight(&self, position: usize) -> u32;
    /// What asking it would cost, see [`super::PeakEwma::cost`]; in any unit.
    fn cost(&self, position: usize, share: f64) -> f64;
    /// Takes one of its places, if it has room.
    fn take(&mut self, position: usize) -> bool;
}

/// A candidate, as a chooser has to know it.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its position in the list that [`KeyTable`]s are made of.
    pub place: usize,
    /// What it counts now.
    pub weight: u32,
    /// What it counts once it has served for a while.
    pub whole: u32,
}

/// Picks positions of the list of candidates that it was last given.
#[derive(Debug)]
pub struct Chooser {
    policy: Policy,
    draw: Draw,
    dice: Dice,
}

#[derive(Debug)]
enum Policy {
    Random,
    LeastRequests,
    PeakEwma,
    Hash(ByKey),
}

#[derive(Debug)]
struct ByKey {
    /// In percent of the mean.
    bound: Option<u32>,
    /// By place: the candidate's position, [`NOBODY`] where it is out.
    positions: Vec<u32>,
    /// Those that have not their whole weight yet, and what that is; by position.
    beginners: Vec<(usize, u32)>,
}

const NOBODY: u32 = u32::MAX;

impl Chooser {
    /// `None`: turns need none.
    pub fn new(balance: &Balance, seed: u64) -> Option<Box<Self>> {
        let policy = policy(balance)?;
        Some(Box::new(Self { policy, draw: Draw::default(), dice: Dice::seeded(seed) }))
    }

    /// Takes a new list, and what its app has chosen.
    pub fn update(&mut self, balance: &Balance, members: &[Member]) {
        if let Some(policy) = policy(balance) {
            self.policy = policy;
        }
        self.draw.update(members.iter().map(|member| member.weight));
        if let Policy::Hash(by_key) = &mut self.policy {
            by_key.update(members);
        }
    }

    /// Whether it has a say over a request: without a key, there is nothing to hash.
    pub fn chooses(&self, key: Option<u64>) -> bool {
        key.is_some() || !matches!(self.policy, Policy::Hash(_))
    }

    /// Whom a request goes to, one of whose places is then taken. `None`: it has found nobody, which does not mean
    /// that there is nobody. `hashed`: the request's key, and the table of all candidates; `spares`: those that have
    /// just begun to serve are spared as far as their weight says.
    pub fn choose(
        &mut self,
        who: &mut impl Candidates,
        hashed: Option<(u64, &KeyTable)>,
        spares: bool,
    ) -> Option<usize> {
        let Self { policy, draw, dice } = self;
        match policy {
            Policy::Random => drawn(who, || draw.one(dice)).filter(|one| who.take(*one)),
            Policy::LeastRequests => better_of_two(who, draw, dice, |who, one, other| {
                let [a, b] = [one, other].map(|at| u64::from(who.in_flight(at)));
                // By weight: a / weight of one > b / weight of the other.
                a * draw.weight(other) > b * draw.weight(one)
            }),
            Policy::PeakEwma => better_of_two(who, draw, dice, |who, one, other| {
                let mean = draw.total() as f64 / draw.len() as f64;
                let [a, b] = [one, other].map(|at| who.cost(at, mean / draw.weight(at) as f64));
                a > b
            }),
            Policy::Hash(by_key) => {
                hashed.and_then(|(key, table)| by_key.find(who, draw, key, table, spares))
            }
        }
    }
}

fn policy(balance: &Balance) -> Option<Policy> {
    match balance {
        Balance::RoundRobin => None,
        Balance::Random => Some(Policy::Random),
        Balance::LeastRequests => Some(Policy::LeastRequests),
        Balance::PeakEwma { .. } => Some(Policy::PeakEwma),
        Balance::Hash(hashing) => Some(Policy::Hash(ByKey {
            bound: hashing.bounded_load,
            positions: Vec::new(),
            beginners: Vec::new(),
        })),
    }
}

fn drawn(who: &impl Candidates, mut draw: impl FnMut() -> Option<usize>) -> Option<usize> {
    (0..DRAWS).map_while(|_| draw()).find(|position| who.may(*position))
}

/// Mitzenmacher's two choices: nearly as even as asking all of them, and workers that know the same do not all run to
/// the same one. `is_worse` compares the first with the second; between equals the first one drawn, so that shares
/// are those of the weights as long as there is no difference.
fn better_of_two<W: Candidates>(
    who: &mut W,
    draw: &Draw,
    dice: &mut Dice,
    is_worse: impl Fn(&W, usize, usize) -> bool,
) -> Option<usize> {
    let one = drawn(who, || draw.one(dice))?;
    let other = drawn(who, || draw.another(one, dice));
    let order = match other {
        Some(other) if is_worse(who, one, other) => [Some(other), Some(one)],
        other => [Some(one), other],
    };
    order.into_iter().flatten().find(|position| who.take(*position))
}

impl ByKey {
    fn update(&mut self, members: &[Member]) {
        let places = members.iter().map(|member| member.place + 1).max().unwrap_or_default();
        self.positions = vec![NOBODY; places];
        self.beginners.clear();
        for (position, member) in members.iter().enumerate() {
            self.positions[member.place] = position as u32;
            if member.weight < member.whole {
                self.beginners.push((position, member.whole));
            }
        }
    }

    fn find(
        &self,
        who: &mut impl Candidates,
        draw: &Draw,
        key: u64,
        table: &KeyTable,
        spares: bool,
    ) -> Option<usize> {
        let mut passed_over = SmallVec::<[usize; 8]>::new();
        let in_flight = OnceCell::new();
        for place in table.owners(key).take(PLACES_LOOKED_AT) {
            let Some(position) = self.position(place) else { continue };
            if passed_over.contains(&position) {
                continue;
            }
            let is_wanted = who.may(position)
                && !(spares && self.is_spared(position, key, draw))
                && self.is_within_bound(who, draw, position, &in_flight);
            if is_wanted && who.take(position) {
                return Some(position);
            }
            if passed_over.len() < PASSED_OVER {
                passed_over.push(position);
            }
        }
        None
    }

    fn position(&self, place: usize) -> Option<usize> {
        self.positions.get(place).filter(|position| **position != NOBODY).map(|position| *position as usize)
    }

    /// Of an endpoint that has just begun: for how many keys depends on its weight, for which ones on the keys, so
    /// that each comes to it once.
    fn is_spared(&self, position: usize, key: u64, draw: &Draw) -> bool {
        let beginner = self.beginners.iter().find(|(beginner, _)| *beginner == position);
        beginner.is_some_and(|(_, whole)| mix(key) % u64::from(*whole) >= draw.weight(position))
    }

    /// Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018): with one more request,
    /// nobody may have more than its share of all that are under way, times the bound. Costs a look at all
    /// candidates, where the first one is not idle.
    fn is_within_bound(
        &self,
        who: &impl Candidates,
        draw: &Draw,
        position: usize,
        in_flight: &OnceCell<u64>,
    ) -> bool {
        let Some(bound) = self.bound else { return true };
        let own = who.in_flight(position);
        if own == 0 {
            return true;
        }
        let all = *in_flight.get_or_init(|| (0..draw.len()).map(|at| u64::from(who.in_flight(at))).sum());
        let share = u128::from(bound) * u128::from(all + 1) * u128::from(draw.weight(position));
        u128::from(own) < share.div_ceil(100 * u128::from(draw.total().max(1)))
    }
}

#[cfg(test)]
mod tests;
