//! Where a rollout begins and ends.

use super::{Situation, count};
use crate::model::{Deployment, Digest, Millis, Progress, Release, Rollout, RolloutPolicy, Status};

/// Compares what is wanted with where the app is going.
pub(super) fn take_up(state: &mut Rollout, deployment: &Deployment, situation: &Situation<'_>) {
    let Some(spec) = deployment.wanted() else { return };
    let release = Release {
        version: deployment.version.clone(),
        config_generation: deployment.config_generation,
        spec: spec.clone(),
    };
    let wanted = release.digest();
    if state.abandoned.as_ref() == Some(&wanted) {
        return;
    }
    let back = state.stable.as_ref() == Some(&wanted);
    if state.target.as_ref() == Some(&wanted) {
        // Going there, or there already; or stopped on the way and started again.
        match (state.status, back) {
            (Status::Idle, true) => resume(state, situation.now),
            (Status::Idle, false) => begin(state, &release, wanted, situation),
            // Wanted again while it was being undone.
            (Status::RollingBack, false) => begin(state, &release, wanted, situation),
            _ => {}
        }
        return;
    }
    match (back, state.status) {
        (true, Status::Progressing | Status::Paused | Status::Failed) if !state.undo_failed => {
            let reason = "what served before is wanted again".to_owned();
            undo(state, reason, situation.now);
            state.abandoned = None;
        }
        (true, Status::Idle) => resume(state, situation.now),
        (true, _) => state.abandoned = None,
        (false, _) => begin(state, &release, wanted, situation),
    }
}

/// To what served last, from wherever it was left: a rollout without a former side, which also takes a split away.
fn resume(state: &mut Rollout, now: Millis) {
    (state.status, state.reason, state.abandoned) = (Status::Progressing, None, None);
    state.target.clone_from(&state.stable);
    state.staged = false;
    restart(state, now);
}

fn begin(state: &mut Rollout, release: &Release, wanted: Digest, situation: &Situation<'_>) {
    state.remember(release);
    let serving = count(situation.members, |member| {
        member.is_alive()
            && Some(&member.release) == state.stable.as_ref()
            && member.version != release.version
    });
    state.number += 1;
    state.target = Some(wanted);
    (state.status, state.reason, state.abandoned) = (Status::Progressing, None, None);
    // Only what has two versions can be split between them.
    state.staged = serving > 0;
    (state.share_reached, state.share_left) = (0, 0);
    state.withheld = 0;
    restart(state, situation.now);
}

fn restart(state: &mut Rollout, now: Millis) {
    (state.stage, state.shifted, state.holding, state.promoted) = (0, false, None, false);
    (state.started, state.progressed, state.furthest) = (now, now, Progress::default());
    state.undo_failed = false;
}

/// Turns round.
pub(super) fn undo(state: &mut Rollout, reason: String, now: Millis) {
    state.abandoned.clone_from(&state.target);
    state.share_left = state.share_reached;
    (state.status, state.reason) = (Status::RollingBack, Some(reason));
    restart(state, now);
}

/// Back where that is possible and wanted, or no further.
pub(super) fn give_up(state: &mut Rollout, policy: &RolloutPolicy, reason: String, now: Millis) {
    match state.status {
        Status::Progressing if policy.rollback && can_go_back(state) => undo(state, reason, now),
        Status::RollingBack => {
            let before = state.reason.take().unwrap_or_default();
            state.reason = Some(format!("{before}; and going back failed: {reason}"));
            (state.status, state.undo_failed) = (Status::Failed, true);
        }
        Status::Failed => {}
        _ => {
            state.abandoned.clone_from(&state.target);
            (state.status, state.reason) = (Status::Failed, Some(reason));
            state.undo_failed = false;
        }
    }
}

pub(super) fn can_go_back(state: &Rollout) -> bool {
    state.stable.as_ref().is_some_and(|stable| state.release(stable).is_some())
        && state.stable != state.target
}

pub(super) fn finish(state: &mut Rollout) {
    match state.status {
        Status::Progressing | Status::Paused => {
            state.stable.clone_from(&state.target);
            (state.status, state.reason, state.abandoned) = (Status::Completed, None, None);
        }
        _ => {
            state.target.clone_from(&state.stable);
            (state.status, state.undo_failed) = (Status::RolledBack, false);
        }
    }
    (state.share_reached, state.share_left) = (0, 0);
}
