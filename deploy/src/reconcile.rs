//! What is where it should not be, and what has to move. Pure.
//!
//! That what runs and is not wanted is stopped, what is wanted and does not run is started, and what is registered and gone is
//! removed follows from [`crate::lifecycle`] and [`crate::rollout`]; here is what concerns several apps or none.

use std::collections::{BTreeMap, BTreeSet};

use topology::{AppId, InstanceId};

use crate::model::Phase;

/// An instance and how its host is.
#[derive(Debug, Clone)]
pub struct Placed {
    pub app: AppId,
    pub instance: InstanceId,
    pub phase: Phase,
    /// Its host has not answered for too long.
    pub lost: bool,
    /// An operator wants its host empty.
    pub drained: bool,
}

/// Who has to move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocations {
    /// At once: where they are is lost.
    pub condemned: BTreeSet<(AppId, InstanceId)>,
    /// When another one has taken their place.
    pub moving: BTreeSet<(AppId, InstanceId)>,
}

/// Chooses who moves now. Of instances on lost hosts that may be serving still, no more are on the way than `percent` of all
/// that there are (one at least): where half of the hosts seem lost, the view of whoever looks is more likely to be lost.
/// What every engine sees is the same, and so is what it chooses.
pub fn relocate(placed: &[Placed], percent: u32) -> Relocations {
    let alive: Vec<&Placed> = placed.iter().filter(|each| !each.phase.is_ending()).collect();
    let affected: BTreeSet<&AppId> = alive.iter().filter(|each| each.lost).map(|each| &each.app).collect();
    let comes = |each: &&&Placed| each.phase < Phase::Serving && !each.lost && affected.contains(&each.app);
    let on_the_way = alive.iter().filter(comes).count();
    let allowed = share(alive.len(), percent).saturating_sub(on_the_way);
    let name = |each: &&Placed| (each.app.clone(), each.instance.clone());
    let lost = || alive.iter().copied().filter(|each| each.lost);
    // Who never served is missed by nobody.
    let mut condemned: BTreeSet<_> =
        lost().filter(|each| each.phase < Phase::Registering).map(|each| name(&each)).collect();
    let mut serving: Vec<_> =
        lost().filter(|each| each.phase >= Phase::Registering).map(|each| name(&each)).collect();
    serving.sort();
    condemned.extend(serving.into_iter().take(allowed));
    Relocations { condemned, moving: leave_drained(&alive, percent) }
}

/// Each app's share by itself, the same ones until they are gone: an app that finds no place holds up no other.
fn leave_drained(alive: &[&Placed], percent: u32) -> BTreeSet<(AppId, InstanceId)> {
    let mut by_app: BTreeMap<&AppId, (usize, Vec<&InstanceId>)> = BTreeMap::new();
    for each in alive {
        let (number, drained) = by_app.entry(&each.app).or_default();
        *number += 1;
        drained.extend((each.drained && !each.lost).then_some(&each.instance));
    }
    let mut moving = BTreeSet::new();
    for (app, (number, mut drained)) in by_app {
        drained.sort();
        let chosen = drained.into_iter().take(share(number, percent));
        moving.extend(chosen.map(|instance| (app.clone(), instance.clone())));
    }
    moving
}

fn share(number: usize, percent: u32) -> usize {
    (number * percent as usize / 100).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(app: &str, at: usize, phase: Phase, lost: bool) -> Placed {
        let instance = InstanceId::parse(&format!("i{at}")).unwrap();
        Placed { app: AppId::parse(app).unwrap(), instance, phase, lost, drained: false }
    }

    #[test]
    fn of_a_lost_half_a_bounded_share_moves_at_once() {
        let mut all: Vec<_> = (0..20).map(|at| placed("shop", at, Phase::Serving, at < 10)).collect();
        assert_eq!(relocate(&all, 20).condemned.len(), 4);
        // Two of their successors are on the way.
        all[18].phase = Phase::Starting;
        all[19].phase = Phase::Registering;
        assert_eq!(relocate(&all, 20).condemned.len(), 2);
        // Another app's are not counted, and who never served goes at once.
        all.push(placed("blog", 99, Phase::Probing, false));
        all.push(placed("shop", 98, Phase::Probing, true));
        assert_eq!(relocate(&all, 20).condemned.len(), 3);
        assert_eq!(relocate(&all[..1], 20).condemned.len(), 1, "one at least");
    }

    #[test]
    fn a_drained_host_is_left_app_by_app() {
        let mut all: Vec<_> = (0..10).map(|at| placed("shop", at, Phase::Serving, false)).collect();
        all.push(placed("blog", 1, Phase::Serving, false));
        for each in &mut all {
            each.drained = true;
        }
        assert_eq!(relocate(&all, 20).moving.len(), 3);
        assert!(relocate(&all, 20).condemned.is_empty());
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_whatever_is_lost(
            fleet in prop::collection::vec((0..3_usize, 0..7_usize, any::<bool>()), 0..60), percent in 0..60_u32,
        ) {
            let phases = [Phase::Starting, Phase::Probing, Phase::Registering, Phase::Serving, Phase::Leaving, Phase::Draining,
                Phase::Stopping];
            let all: Vec<_> = fleet.iter().enumerate()
                .map(|(at, (app, phase, lost))| placed(["a", "b", "c"][*app], at, phases[*phase], *lost))
                .collect();
            let chosen = relocate(&all, percent);
            let alive = all.iter().filter(|each| !each.phase.is_ending()).count();
            let serving = all.iter().filter(|each| {
                each.phase >= Phase::Registering && chosen.condemned.contains(&(each.app.clone(), each.instance.clone()))
            });
            prop_assert!(serving.count() <= (alive * percent as usize / 100).max(1));
        }
    }
}
