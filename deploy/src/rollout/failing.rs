//! When a rollout is given up, and how long failures hold back what would replace them.

use std::time::Duration;

use super::stages::Stages;
use super::{MAX_CREATED, Member, Plan, Situation, begin, count};
use crate::model::{Deployment, Digest, Failure, Hold, Millis, Progress, RestartPolicy, Rollout, Status};

/// Gives up what fails too often, or in a way that no repetition mends.
pub(super) fn judge_failures(state: &mut Rollout, deployment: &Deployment, situation: &Situation<'_>) {
    if !matches!(state.status, Status::Progressing | Status::Paused | Status::RollingBack) {
        return;
    }
    let Some(receiving) = state.receiving_side().cloned() else { return };
    let own = |failure: &&Failure| failure.release == receiving && failure.at >= state.started;
    let fatal = state.failures.iter().filter(own).find(|failure| failure.fatal);
    let charged = state.failures.iter().filter(own).filter(|failure| !failure.of_host);
    let number = charged.clone().count();
    let reason = match (fatal, charged.clone().next_back()) {
        (Some(fatal), _) => fatal.reason.clone(),
        (None, Some(last)) if number > deployment.rollout.max_failures as usize => {
            format!("{number} instances failed, the last one: {}", last.reason)
        }
        _ => return,
    };
    if state.status == Status::Paused {
        // Paused or not, what is broken is not waited for.
        state.status = Status::Progressing;
    }
    begin::give_up(state, &deployment.rollout, reason, situation.now);
}

/// Notes a step forward, and says when there was none for too long.
pub(super) fn note_progress(
    state: &mut Rollout,
    deployment: &Deployment,
    situation: &Situation<'_>,
    stages: &Stages,
) -> Option<String> {
    let now = situation.now;
    let left = count(situation.members, |member| {
        member.is_alive() && Some(&member.release) != state.receiving_side()
    });
    let reached = Progress {
        stage: state.stage,
        shifted: state.shifted,
        held: state.holding.is_some(),
        arrived: stages.available(situation),
        departed: u32::MAX - left,
    };
    if state.status == Status::Paused {
        return None;
    }
    if reached > state.furthest {
        (state.furthest, state.progressed) = (reached, now);
        return None;
    }
    let policy = &deployment.rollout;
    let held = match (state.holding, stages.current(state).map(|stage| stage.hold)) {
        (Some(_), Some(Hold::Manual)) => policy.promote_within,
        (Some(_), Some(Hold::For(hold))) => hold + policy.progress_deadline,
        _ => policy.progress_deadline,
    };
    let waited = Duration::from_millis(now.saturating_sub(state.progressed));
    (waited >= held && state.status != Status::Failed).then(|| {
        let waits_for = stages.waits_for(state, situation);
        format!("no step forward for {}: {waits_for}", discovery::document::show_duration(held))
    })
}

/// Bounds what is created: by its failures, by what it depends on, by the size of a decision.
pub(super) fn hold_back(plan: &mut Plan, deployment: &Deployment, situation: &Situation<'_>) {
    let serves = situation.members.iter().any(Member::is_alive);
    if let Some(blocked) = situation.start_blocked.as_ref().filter(|_| !serves && !plan.create.is_empty()) {
        plan.create.clear();
        plan.state.reason = Some(blocked.clone());
        return;
    }
    let mut left = MAX_CREATED;
    let mut wake = plan.wake;
    let state = &plan.state;
    plan.create.retain_mut(|(release, number)| {
        let allowed = next_start(&state.failures, release, &deployment.restart, situation.now);
        if let Some(at) = allowed.filter(|at| *at > situation.now) {
            wake = Some(wake.map_or(at, |other| other.min(at)));
            return false;
        }
        *number = (*number).min(left);
        left -= *number;
        *number > 0
    });
    plan.wake = wake;
}

/// When one of `release` may be started; `None`: never mind.
pub(crate) fn next_start(
    failures: &[Failure],
    release: &Digest,
    policy: &RestartPolicy,
    now: Millis,
) -> Option<Millis> {
    let window = u64::try_from(policy.window.as_millis()).unwrap_or(u64::MAX);
    let recent = failures
        .iter()
        .filter(|failure| failure.release == *release && failure.at.saturating_add(window) > now);
    let recent: Vec<Millis> = recent.map(|failure| failure.at).collect();
    let (last, number) = (*recent.last()?, recent.len());
    let max = policy.max as usize;
    if number > max {
        // The window has to pass over the oldest of the last `max + 1`.
        return Some(recent[number - max - 1].saturating_add(window));
    }
    let doublings = u32::try_from(number - 1).unwrap_or(u32::MAX).min(20);
    let backoff = policy.backoff.saturating_mul(1 << doublings).min(policy.max_backoff);
    Some(last.saturating_add(u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX)))
}
