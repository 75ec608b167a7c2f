//! From one release to the next, as a state machine. Pure: shown what is wanted, what there is and what is known, it says
//! what to create, what to retire and how to split the traffic. It is asked again whenever anything changes and decides
//! anew each time; what it has to remember is in [`Rollout`].
//!
//! What it holds to:
//! - No available instance is retired where fewer than wanted, less what may be out, would be left for the traffic that it had.
//! - A release gets a share of the traffic only when it has the instances for it, and is retired only when every gateway has
//!   applied a split that gives it nothing.
//! - Steps forward are finite in number, and each has a deadline: a rollout that nobody pauses ends as completed, rolled back or failed.

mod begin;
pub mod command;
mod converge;
mod failing;
mod resize;
#[cfg(test)]
mod simulation;
mod stages;

use std::collections::BTreeMap;
use std::time::Duration;

use topology::{InstanceId, VersionId};

use crate::model::{Deployment, Digest, Millis, Phase, Rollout, Status};

pub(crate) use failing::next_start;
use stages::{Advance, Stages};

/// Instances created in one decision: a decision is one transaction, with three keys for each.
pub const MAX_CREATED: u32 = 16;

/// One instance, as far as a rollout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: InstanceId,
    pub version: VersionId,
    pub release: Digest,
    pub phase: Phase,
    /// It serves, and neither its probes nor its host say otherwise.
    pub available: bool,
    /// It is to move: kept until another one has taken its place.
    pub moving: bool,
    /// The release whose limits its host cannot give it where it runs.
    pub unresizable: Option<Digest>,
}

impl Member {
    /// Whether it counts: it is there or on its way, and not going.
    fn is_alive(&self) -> bool {
        !self.phase.is_ending()
    }
}

/// How an app's traffic is split, by its spec.
#[derive(Debug, Clone, Default)]
pub struct SplitInForce {
    /// `None`: all instances by weight.
    pub shares: Option<BTreeMap<VersionId, u16>>,
    /// Every gateway has applied it.
    pub applied: bool,
}

/// What the receiving release's requests looked like since its stage has held.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    pub requests: u64,
    /// Answered 5xx, or not at all.
    pub errors: u64,
    /// The 99th percentile.
    pub latency: Option<Duration>,
}

/// What a decision is made on.
#[derive(Debug, Clone)]
pub struct Situation<'s> {
    pub deployment: Option<&'s Deployment>,
    /// After bounds and autoscaling.
    pub count: u32,
    pub members: &'s [Member],
    pub split: &'s SplitInForce,
    pub traffic: Option<Traffic>,
    /// What it waits for before anything of it starts: dependencies.
    pub start_blocked: Option<String>,
    /// What it waits for before the last of it stops: dependents.
    pub stop_blocked: Option<String>,
    /// Why nothing could be placed lately.
    pub unplaceable: Option<String>,
    pub now: Millis,
}

/// How the traffic is to be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitWish {
    /// As it is: an operator's own matter.
    Leave,
    /// By weight, whatever the versions.
    Whole,
    /// In percent.
    Shares(BTreeMap<VersionId, u16>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What to remember.
    pub state: Rollout,
    /// How many of which release.
    pub create: Vec<(Digest, u32)>,
    /// Whom, and why.
    pub retire: Vec<(InstanceId, String)>,
    /// Who is to be given the limits of the receiving release where it runs.
    pub resize: Vec<InstanceId>,
    pub split: SplitWish,
    /// When to decide again if nothing changes before.
    pub wake: Option<Millis>,
}

/// Decides.
pub fn plan(state: &Rollout, situation: &Situation<'_>) -> Plan {
    let mut plan = Plan {
        state: state.clone(),
        create: Vec::new(),
        retire: Vec::new(),
        resize: Vec::new(),
        split: SplitWish::Leave,
        wake: None,
    };
    match situation.deployment.filter(|deployment| deployment.running) {
        None => stop(&mut plan, situation),
        Some(deployment) => {
            begin::take_up(&mut plan.state, deployment, situation);
            let (resize, members) = resize::resize(&plan.state, situation);
            plan.resize = resize;
            run(&mut plan, deployment, &Situation { members: &members, ..situation.clone() });
        }
    }
    forget_releases(&mut plan.state, situation);
    plan
}

/// Everything goes, and so does the rollout: what is wanted later is begun then.
fn stop(plan: &mut Plan, situation: &Situation<'_>) {
    let why = if situation.deployment.is_some() { "the app is stopped" } else { "the app is deleted" };
    let state = &mut plan.state;
    if state.status.is_active() || (situation.deployment.is_none() && state.status != Status::Idle) {
        (state.status, state.target, state.abandoned) = (Status::Idle, state.stable.clone(), None);
    }
    state.withheld = 0;
    state.reason = Some(why.to_owned());
    if let Some(blocked) = &situation.stop_blocked {
        state.reason = Some(blocked.clone());
        return;
    }
    let alive = situation.members.iter().filter(|member| member.is_alive());
    plan.retire.extend(alive.map(|member| (member.id.clone(), why.to_owned())));
}

fn run(plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>) {
    if matches!(plan.state.status, Status::Progressing | Status::Completed) {
        // What it waited for, or that it was stopped.
        plan.state.reason = None;
    }
    failing::judge_failures(&mut plan.state, deployment, situation);
    let is_under_way = |state: &Rollout| state.status.is_active() || state.undoing();
    if is_under_way(&plan.state) {
        drive(plan, deployment, situation);
    }
    if !is_under_way(&plan.state) {
        converge::maintain(plan, situation);
    }
    failing::hold_back(plan, deployment, situation);
}

/// Takes as many stages at once as nothing has to be waited for.
fn drive(plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>) {
    let stages = Stages::of(&plan.state, deployment);
    loop {
        match stages.advance(&mut plan.state, deployment, situation) {
            Advance::Next => {}
            Advance::Wait => break,
            Advance::Bad(reason) => {
                begin::give_up(&mut plan.state, &deployment.rollout, reason, situation.now);
                return drive_again(plan, deployment, situation);
            }
            Advance::Done => {
                begin::finish(&mut plan.state);
                return;
            }
        }
    }
    let late = failing::note_progress(&mut plan.state, deployment, situation, &stages);
    if let Some(reason) = late {
        begin::give_up(&mut plan.state, &deployment.rollout, reason, situation.now);
        return drive_again(plan, deployment, situation);
    }
    stages.act(plan, deployment, situation);
}

/// In the other direction, once: a failure of the way back is found in the next decision.
fn drive_again(plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>) {
    if plan.state.status != Status::RollingBack {
        return;
    }
    let stages = Stages::of(&plan.state, deployment);
    while matches!(stages.advance(&mut plan.state, deployment, situation), Advance::Next) {}
    stages.act(plan, deployment, situation);
}

/// Keeps what an instance runs, may run again, or goes back to.
fn forget_releases(state: &mut Rollout, situation: &Situation<'_>) {
    let named = [state.stable.clone(), state.target.clone(), state.abandoned.clone()];
    state.releases.retain(|release| {
        let digest = release.digest();
        named.iter().flatten().any(|other| *other == digest)
            || situation.members.iter().any(|member| member.release == digest)
    });
}

fn count(members: &[Member], which: impl Fn(&Member) -> bool) -> u32 {
    u32::try_from(members.iter().filter(|member| which(member)).count()).unwrap_or(u32::MAX)
}
