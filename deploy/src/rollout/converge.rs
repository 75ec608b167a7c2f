//! How many to create and whom to retire, so that there are as many as wanted and never too few.

use topology::InstanceId;

use super::{Member, Plan, Situation, count};
use crate::model::{Deployment, Digest, RolloutKind, Status};

/// What is to be left when all is done.
pub(super) struct Side<'s> {
    pub receiving: &'s Digest,
    pub count: u32,
    /// Whether those of the receiving release get their share of the traffic.
    pub may_retire: bool,
}

/// Both sides at once, without a split: new ones come and old ones go within the policy's bounds.
pub(super) fn converge(plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>, side: &Side<'_>) {
    let (surge, unavailable) = match deployment.rollout.kind {
        RolloutKind::Rolling { surge, unavailable } => (surge, unavailable),
        // A staged policy whose rollout has only one version, or goes back: as many beside as there are.
        _ => (side.count.max(1), 0),
    };
    let members = situation.members;
    let is_new = |member: &Member| member.release == *side.receiving;
    let alive = count(members, Member::is_alive);
    let new = count(members, |member| member.is_alive() && is_new(member) && !member.moving);
    let missing = side.count.saturating_sub(new);
    // Those that do not serve go without being replaced first, so their room is free.
    let idle = count(members, |member| member.is_alive() && !is_new(member) && !member.available);
    let room = side.count.saturating_add(surge).saturating_add(idle).saturating_sub(alive);
    push(plan, side.receiving, missing.min(room));
    let floor = side.count.saturating_sub(unavailable);
    let mut budget = budget(members, floor, side.may_retire);
    let mut old: Vec<&Member> =
        members.iter().filter(|member| member.is_alive() && !is_new(member)).collect();
    order(&mut old);
    take(plan, &old, u32::MAX, &mut budget, "replaced");
    let own = members.iter().filter(|member| member.is_alive() && is_new(member)).collect();
    trim(plan, own, side.count, &mut budget);
}

/// One side of a split, at its own number: what is missing comes, what is too much goes, the side's own number is its floor.
pub(super) fn hold(
    plan: &mut Plan,
    situation: &Situation<'_>,
    release: &Digest,
    wanted: u32,
    may_retire: bool,
) {
    let own: Vec<&Member> =
        situation.members.iter().filter(|member| member.is_alive() && member.release == *release).collect();
    let alive = own.len() as u32;
    let moving = own.iter().filter(|member| member.moving).count() as u32;
    push(plan, release, wanted.saturating_sub(alive - moving));
    let available = own.iter().filter(|member| member.available).count() as u32;
    let mut budget = if may_retire { available.saturating_sub(wanted) } else { 0 };
    trim(plan, own, wanted, &mut budget);
}

/// Between rollouts: as many as wanted of what serves, and nothing else.
pub(super) fn maintain(plan: &mut Plan, situation: &Situation<'_>) {
    let frozen = plan.state.status == Status::Failed;
    let Some(receiving) = plan.state.receiving().cloned() else {
        return retire_all(plan, situation, "its rollout has failed", |member| !member.available);
    };
    let members = situation.members;
    if frozen {
        // Neither forward nor back: what serves stays, of either release.
        let alive = count(members, |member| member.is_alive() && !member.moving);
        push(plan, &receiving, situation.count.saturating_sub(alive));
        let idle = |member: &Member| !member.available && member.release != receiving;
        return retire_all(plan, situation, "its rollout has failed", idle);
    }
    let new = count(members, |member| member.is_alive() && member.release == receiving && !member.moving);
    push(plan, &receiving, situation.count.saturating_sub(new));
    let mut budget = budget(members, situation.count, true);
    let mut others: Vec<&Member> =
        members.iter().filter(|member| member.is_alive() && member.release != receiving).collect();
    order(&mut others);
    take(plan, &others, u32::MAX, &mut budget, "left over");
    let own = members.iter().filter(|member| member.is_alive() && member.release == receiving).collect();
    trim(plan, own, situation.count, &mut budget);
}

pub(super) fn retire_all(
    plan: &mut Plan,
    situation: &Situation<'_>,
    reason: &str,
    which: impl Fn(&Member) -> bool,
) {
    let chosen = situation.members.iter().filter(|member| member.is_alive() && which(member));
    let chosen: Vec<InstanceId> = chosen.map(|member| member.id.clone()).collect();
    for id in chosen {
        retire(plan, &id, reason);
    }
}

/// Available instances that may go while `floor` of them stay.
fn budget(members: &[Member], floor: u32, may_retire: bool) -> u32 {
    let available = count(members, |member| member.available && member.is_alive());
    if may_retire { available.saturating_sub(floor) } else { 0 }
}

/// Who is to move goes when another one has come; of the others those go that are too many.
fn trim(plan: &mut Plan, own: Vec<&Member>, wanted: u32, budget: &mut u32) {
    let (mut moving, mut staying): (Vec<&Member>, Vec<&Member>) =
        own.into_iter().partition(|member| member.moving);
    order(&mut moving);
    order(&mut staying);
    take(plan, &moving, u32::MAX, budget, "moved");
    let over = (staying.len() as u32).saturating_sub(wanted);
    take(plan, &staying, over, budget, "more than wanted");
}

/// Those that are missed least come first: who does not serve, who is furthest from serving, then by id.
fn order(members: &mut [&Member]) {
    members.sort_by_key(|member| (member.available, member.phase, member.id.clone()));
}

/// At most `most`; of those that serve no more than the budget.
fn take(plan: &mut Plan, members: &[&Member], most: u32, budget: &mut u32, reason: &str) {
    for member in members.iter().take(most as usize) {
        if member.available {
            if *budget == 0 {
                return;
            }
            *budget -= 1;
        }
        retire(plan, &member.id, reason);
    }
}

fn retire(plan: &mut Plan, id: &InstanceId, reason: &str) {
    if plan.retire.iter().all(|(other, _)| other != id) {
        plan.retire.push((id.clone(), reason.to_owned()));
    }
}

fn push(plan: &mut Plan, release: &Digest, number: u32) {
    if number > 0 {
        plan.create.push((release.clone(), number));
    }
}
