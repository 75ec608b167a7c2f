//! The stages of a rollout of each kind, and when one is over.

use std::collections::BTreeMap;

use topology::VersionId;

use super::converge::{Side, converge, retire_all};
use super::{Member, Plan, Situation, SplitWish, Traffic, count};
use crate::model::{
    Deployment, Digest, Hold, Judgement, Millis, Rollout, RolloutKind, RolloutPolicy, Status,
};

/// One stage: first as many instances of the receiving release, then the split, then the hold; the other side goes where it is
/// not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    /// In percent of what is wanted of the receiving release.
    pub receives: u32,
    pub keeps: bool,
    /// Of the target, in percent; `None`: no split.
    pub share: Option<u16>,
    pub hold: Hold,
    pub is_judged: bool,
}

#[derive(Debug)]
pub(super) struct Stages {
    list: Vec<Stage>,
    /// Before the first.
    initial: Option<u16>,
    receiving: Option<Digest>,
    /// The versions of stable and target, where there is a split.
    versions: Option<(VersionId, VersionId)>,
}

pub(super) enum Advance {
    /// A step was taken; there may be more.
    Next,
    Wait,
    /// Its traffic says that it must not go on.
    Bad(String),
    Done,
}

const NO_HOLD: Hold = Hold::For(std::time::Duration::ZERO);

impl Stages {
    pub(super) fn of(state: &Rollout, deployment: &Deployment) -> Self {
        let version = |digest: &Option<Digest>| Some(state.release(digest.as_ref()?)?.version.clone());
        let versions = version(&state.stable).zip(version(&state.target)).filter(|_| state.staged);
        let (initial, list) = match (state.undoing(), &versions) {
            (false, Some(_)) => forward(&deployment.rollout),
            (true, Some(_)) if !is_rolling(&deployment.rollout) || state.share_left > 0 => {
                (Some(state.share_left), back())
            }
            _ => (None, vec![stage(100, false, None)]),
        };
        Self { list, initial, receiving: state.receiving_side().cloned(), versions }
    }

    /// Moves `state` on by at most one step.
    pub(super) fn advance(
        &self,
        state: &mut Rollout,
        deployment: &Deployment,
        situation: &Situation<'_>,
    ) -> Advance {
        let Some(stage) = self.current(state) else { return Advance::Done };
        if state.status == Status::Paused {
            return Advance::Wait;
        }
        let available = self.available(situation);
        if !state.shifted {
            if available < self.enough(state, stage, situation) || !self.is_in_force(state, situation) {
                return Advance::Wait;
            }
            state.shifted = true;
            state.share_reached = state.share_reached.max(stage.share.unwrap_or(0));
            return Advance::Next;
        }
        if !self.is_in_force(state, situation) {
            return Advance::Wait;
        }
        if !stage.keeps {
            let left = count(situation.members, |member| member.is_alive() && !self.receives(member));
            if left > 0 || available < stage_need(stage, situation.count) {
                return Advance::Wait;
            }
        }
        let since = *state.holding.get_or_insert(situation.now);
        match is_held(stage, state, &deployment.rollout, since, situation) {
            Held::Over => {
                (state.shifted, state.holding, state.promoted) = (false, None, false);
                state.stage += 1;
                Advance::Next
            }
            Held::Bad(reason) => Advance::Bad(reason),
            Held::On => Advance::Wait,
        }
    }

    /// Says what to create and to retire, and how to split.
    pub(super) fn act(&self, plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>) {
        let Some(stage) = self.current(&plan.state) else { return };
        plan.split = self.split(&plan.state);
        let in_force = self.is_in_force(&plan.state, situation);
        // Whoever registers before the split that excludes it is in force gets traffic.
        let may_create = in_force || plan.state.stage > 0 || plan.state.shifted || self.versions.is_none();
        if plan.state.status == Status::Paused {
            return self.hold_both(plan, situation);
        }
        let Some(receiving) = &self.receiving else { return };
        if self.initial.is_none() {
            let side = Side { receiving, count: situation.count, may_retire: in_force };
            converge(plan, deployment, situation, &side);
        } else {
            self.act_staged(plan, stage, receiving, situation, (may_create, in_force));
        }
        plan.wake = self.wake(&plan.state, stage);
    }

    fn act_staged(
        &self,
        plan: &mut Plan,
        stage: &Stage,
        receiving: &Digest,
        situation: &Situation<'_>,
        (may_create, in_force): (bool, bool),
    ) {
        let need = stage_need(stage, situation.count);
        let giving = self.giving(&plan.state).cloned();
        if may_create {
            super::converge::hold(plan, situation, receiving, need, in_force);
        }
        if stage.keeps || !plan.state.shifted {
            if let Some(giving) = &giving {
                // The side that is kept in case; going back, what fails there is not made anew.
                let kept = match plan.state.undoing() {
                    true => count(situation.members, |member| member.is_alive() && member.release == *giving),
                    false => situation.count,
                };
                super::converge::hold(plan, situation, giving, kept, in_force);
            }
        } else if in_force && self.available(situation) >= need {
            let giving = giving.as_ref();
            retire_all(plan, situation, "replaced", |member| Some(&member.release) == giving);
        }
        self.retire_strangers(plan, situation, in_force);
    }

    /// Instances of neither side, left by a rollout that was overtaken: they go once the split gives them nothing.
    fn retire_strangers(&self, plan: &mut Plan, situation: &Situation<'_>, in_force: bool) {
        let gets_something = match &plan.split {
            SplitWish::Shares(shares) => shares.clone(),
            SplitWish::Whole | SplitWish::Leave => return,
        };
        let sides = [plan.state.stable.clone(), plan.state.target.clone()];
        retire_all(plan, situation, "overtaken by another rollout", |member| {
            let is_stranger = !sides.iter().flatten().any(|side| *side == member.release);
            let share = gets_something.get(&member.version).copied().unwrap_or(0);
            is_stranger && (!member.available || (in_force && share == 0))
        });
    }

    /// While an operator has paused: what fails is made anew, and nothing else.
    fn hold_both(&self, plan: &mut Plan, situation: &Situation<'_>) {
        let wanted = situation.count;
        let alive = count(situation.members, Member::is_alive);
        let Some(receiving) = &self.receiving else { return };
        let giving = self.giving(&plan.state).cloned();
        let grown =
            giving.as_ref().filter(|giving| plan.state.release(giving).is_some()).unwrap_or(receiving);
        if alive < wanted {
            plan.create.push((grown.clone(), wanted - alive));
        }
    }

    pub(super) fn current(&self, state: &Rollout) -> Option<&Stage> {
        self.list.get(usize::try_from(state.stage).ok()?)
    }

    fn receives(&self, member: &Member) -> bool {
        Some(&member.release) == self.receiving.as_ref()
    }

    fn giving<'s>(&self, state: &'s Rollout) -> Option<&'s Digest> {
        let sides = [state.stable.as_ref(), state.target.as_ref()];
        sides.into_iter().flatten().find(|side| Some(*side) != self.receiving.as_ref())
    }

    pub(super) fn available(&self, situation: &Situation<'_>) -> u32 {
        count(situation.members, |member| member.available && self.receives(member))
    }

    /// What the receiving side must have before the traffic moves. Going back from less than half of the traffic, what served
    /// the rest can take it at once: waiting for the last of them would leave requests with what was given up.
    fn enough(&self, state: &Rollout, stage: &Stage, situation: &Situation<'_>) -> u32 {
        match state.undoing() && self.versions.is_some() && state.share_left <= 50 {
            true => 1.min(situation.count),
            false => match self.initial {
                // Without a split nothing has to be there first: both move together.
                None => 0,
                Some(_) => stage_need(stage, situation.count),
            },
        }
    }

    fn share(&self, state: &Rollout) -> Option<u16> {
        let at = usize::try_from(state.stage).ok()?;
        match (state.shifted, at) {
            (true, at) => self.list.get(at)?.share,
            (false, 0) => self.initial,
            (false, at) => self.list.get(at - 1)?.share,
        }
    }

    pub(super) fn split(&self, state: &Rollout) -> SplitWish {
        match (self.share(state), &self.versions) {
            (Some(share), Some((stable, target))) => {
                SplitWish::Shares(BTreeMap::from([(stable.clone(), 100 - share), (target.clone(), share)]))
            }
            _ => SplitWish::Whole,
        }
    }

    fn is_in_force(&self, state: &Rollout, situation: &Situation<'_>) -> bool {
        let is = match self.split(state) {
            SplitWish::Shares(shares) => situation.split.shares.as_ref() == Some(&shares),
            SplitWish::Whole => situation.split.shares.is_none(),
            SplitWish::Leave => true,
        };
        is && situation.split.applied
    }

    fn wake(&self, state: &Rollout, stage: &Stage) -> Option<Millis> {
        match (state.holding, stage.hold) {
            (Some(since), Hold::For(hold)) => Some(since.saturating_add(hold.as_millis() as u64)),
            _ => None,
        }
    }

    /// What it waits for, for people.
    pub(super) fn waits_for(&self, state: &Rollout, situation: &Situation<'_>) -> String {
        let Some(stage) = self.current(state) else { return "nothing".to_owned() };
        let (available, need) = (self.available(situation), stage_need(stage, situation.count));
        if let Some(blocked) = &situation.start_blocked {
            return blocked.clone();
        }
        if available < need {
            let why = situation.unplaceable.as_ref().map_or(String::new(), |why| format!(": {why}"));
            return format!("{available} of {need} new instances serve{why}");
        }
        if !self.is_in_force(state, situation) {
            return "not every gateway has applied the split of the traffic".to_owned();
        }
        match (state.holding, stage.hold) {
            (Some(_), Hold::Manual) => "an operator's promotion".to_owned(),
            (Some(_), Hold::For(_)) => "enough traffic to judge by".to_owned(),
            (None, _) => "former instances to go".to_owned(),
        }
    }
}

fn is_rolling(policy: &RolloutPolicy) -> bool {
    matches!(policy.kind, RolloutKind::Rolling { .. })
}

fn stage(receives: u32, keeps: bool, share: Option<u16>) -> Stage {
    Stage { receives, keeps, share, hold: NO_HOLD, is_judged: false }
}

fn forward(policy: &RolloutPolicy) -> (Option<u16>, Vec<Stage>) {
    let last = [stage(100, false, Some(100)), stage(100, false, None)];
    match &policy.kind {
        RolloutKind::Rolling { .. } => (None, vec![stage(100, false, None)]),
        RolloutKind::BlueGreen { before, keep } => {
            let green = Stage { hold: *before, ..stage(100, true, Some(0)) };
            let switched = Stage { hold: Hold::For(*keep), is_judged: true, ..stage(100, true, Some(100)) };
            (Some(0), [green, switched].into_iter().chain(last).collect())
        }
        RolloutKind::Canary { steps } => {
            let step = |step: &crate::model::Step| Stage {
                hold: step.hold,
                is_judged: true,
                ..stage(u32::from(step.share), true, Some(step.share))
            };
            let all = stage(100, true, Some(100));
            (Some(0), steps.iter().map(step).chain([all]).chain(last).collect())
        }
    }
}

fn back() -> Vec<Stage> {
    vec![stage(100, true, Some(0)), stage(100, false, Some(0)), stage(100, false, None)]
}

/// At least one, where any is wanted.
fn stage_need(stage: &Stage, wanted: u32) -> u32 {
    (u64::from(wanted) * u64::from(stage.receives)).div_ceil(100) as u32
}

enum Held {
    On,
    Over,
    Bad(String),
}

fn is_held(
    stage: &Stage,
    state: &Rollout,
    policy: &RolloutPolicy,
    since: Millis,
    situation: &Situation<'_>,
) -> Held {
    let judgement = policy.judgement.filter(|_| stage.is_judged && !state.undoing());
    let verdict = judgement.map(|judgement| judge(&judgement, situation.traffic));
    if let Some(Verdict::Bad(reason)) = verdict {
        return Held::Bad(reason);
    }
    if state.promoted {
        return Held::Over;
    }
    match stage.hold {
        Hold::Manual => Held::On,
        Hold::For(hold) => {
            let over = u128::from(situation.now.saturating_sub(since)) >= hold.as_millis();
            let known = !matches!(verdict, Some(Verdict::TooFew));
            if over && known { Held::Over } else { Held::On }
        }
    }
}

enum Verdict {
    Good,
    TooFew,
    Bad(String),
}

fn judge(judgement: &Judgement, traffic: Option<Traffic>) -> Verdict {
    let Some(traffic) = traffic.filter(|traffic| traffic.requests >= judgement.min_requests) else {
        return Verdict::TooFew;
    };
    let rate = traffic.errors as f64 / traffic.requests.max(1) as f64;
    if let Some(most) = judgement.max_error_rate.filter(|most| rate > *most) {
        let (rate, most) = (rate * 100.0, most * 100.0);
        return Verdict::Bad(format!("{rate:.2} % of {} requests failed; {most} % may", traffic.requests));
    }
    match (traffic.latency, judgement.max_latency) {
        (Some(taken), Some(most)) if taken > most => {
            Verdict::Bad(format!("99 % of {} requests took up to {taken:?}; {most:?} may", traffic.requests))
        }
        _ => Verdict::Good,
    }
}
