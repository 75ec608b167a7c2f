//! Who is asked first, and who only where those have nobody: nearer endpoints, farther ones, backups; and what their
//! weights come to.

use std::time::Duration;

use smallvec::SmallVec;
use topology::{AppSpec, Balance};

use super::app::{CompiledApp, Nearness, Pool};
use super::standing::Stage;
use crate::balance::zones::{self, Zoned};
use crate::balance::{Candidate, slow_start};

/// Why those of a rank are asked when they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    First,
    /// Those of other zones, while the gateway's own has enough.
    OtherZones,
    /// Not asked where the others merely have no room.
    Backups,
}

impl Place {
    /// The word in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::OtherZones => "other_zones",
            Self::Backups => "backups",
        }
    }
}

/// Candidates that are asked together.
#[derive(Debug)]
pub struct Rank {
    pub place: Place,
    /// Whether there are backups among them, whatever the place.
    pub has_backups: bool,
    /// Positions in the pool's list.
    pub eligible: Vec<u32>,
    /// In the same order.
    pub candidates: Vec<Candidate>,
    /// What candidates' weights are multiplied by where nothing lessens them.
    pub scale: u32,
}

/// In the order in which they are asked; at least one, maybe of nobody.
#[derive(Debug)]
pub struct Ranks {
    pub ranks: SmallVec<[Rank; 1]>,
    /// After this time somebody's weight will have grown.
    pub grows_in: Option<Duration>,
}

impl Pool {
    /// As healthy as its endpoints are now.
    pub fn ranks(&self, app: &CompiledApp) -> Ranks {
        let (spec, stage) = (&app.spec, app.stage());
        let eligible = self.eligible(stage);
        let mut ranks = Ranks { ranks: SmallVec::new(), grows_in: None };
        let mut weigh = |eligible, place, has_backups| {
            let (candidates, scale, grows_in) = self.weigh(spec, eligible);
            ranks.grows_in = ranks.grows_in.or(grows_in);
            Rank { place, has_backups, eligible: candidates.0, candidates: candidates.1, scale }
        };
        let mut first = weigh(eligible.first, Place::First, eligible.has_backups);
        let backups = (!eligible.backups.is_empty()).then(|| weigh(eligible.backups, Place::Backups, true));
        // A key belongs to one endpoint for gateways of all zones. In a panic nobody knows where the healthy ones are.
        let far = match (&spec.balance, stage) {
            (Balance::Hash(_), _) | (_, Stage::Panic) => None,
            _ => by_zone(self, &mut first),
        };
        ranks.ranks.extend([Some(first), far, backups].into_iter().flatten());
        ranks
    }

    fn weigh(
        &self,
        spec: &AppSpec,
        eligible: Vec<u32>,
    ) -> ((Vec<u32>, Vec<Candidate>), u32, Option<Duration>) {
        let (ramp, mut grows_in) = (spec.slow_start(), None);
        let candidate = |position: &u32| {
            let endpoint = &self.endpoints[*position as usize];
            let mut weight = u32::from(endpoint.weight);
            if let Some(ramp) = ramp {
                let share = slow_start::share(endpoint.live.serving_for(), ramp);
                if share < slow_start::WHOLE {
                    grows_in = Some(slow_start::step(ramp));
                }
                weight *= share;
            }
            Candidate { id: endpoint.live.id, weight }
        };
        let candidates = eligible.iter().map(candidate).collect();
        let scale = if ramp.is_some() { slow_start::WHOLE } else { 1 };
        ((eligible, candidates), scale, grows_in)
    }
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
    let far = Rank { place: Place::OtherZones, has_backups: rank.has_backups, eligible, candidates, scale };
    (!far.eligible.is_empty()).then_some(far)
}
