//! Instances of a release that differs from the one that is wanted by nothing but what they may use: they need not be replaced,
//! but are given other limits where they run.

use topology::InstanceId;

use super::{Member, Situation};
use crate::model::{Digest, Release, Rollout, Status, VersionSpec};

/// Who is to be given what the receiving release says, and the members as the rollout sees them then: of that release, and not
/// available before they have it. Whose host has said no is replaced like any other.
pub(super) fn resize(state: &Rollout, situation: &Situation<'_>) -> (Vec<InstanceId>, Vec<Member>) {
    let mut members = situation.members.to_vec();
    let mut chosen = Vec::new();
    let is_under_way = matches!(state.status, Status::Progressing | Status::RollingBack);
    let Some(receiving) = state.receiving_side().filter(|_| is_under_way) else { return (chosen, members) };
    let Some(release) = state.release(receiving) else { return (chosen, members) };
    for member in &mut members {
        let is_candidate = member.available
            && !member.moving
            && member.release != *receiving
            && member.unresizable.as_ref() != Some(receiving);
        let former = state.release(&member.release).filter(|_| is_candidate);
        if former.is_some_and(|former| differs_in_resources_only(former, release)) {
            chosen.push(member.id.clone());
            count_as(member, receiving);
        }
    }
    (chosen, members)
}

fn count_as(member: &mut Member, release: &Digest) {
    member.release = release.clone();
    member.available = false;
}

fn differs_in_resources_only(one: &Release, other: &Release) -> bool {
    let spec = VersionSpec { resources: other.spec.resources, ..one.spec.clone() };
    one.version == other.version && one.config_generation == other.config_generation && spec == other.spec
}
