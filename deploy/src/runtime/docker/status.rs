//! What an engine says of a container, in our words.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status};
use topology::{AppId, InstanceId, VersionId};

use super::create::{LABEL_ADDRESS, LABEL_APP, LABEL_INSTANCE, LABEL_VERSION};
use super::fault::printable;
use crate::runtime::{InstanceRef, InstanceState, InstanceStatus};

/// `None`: its labels are not ours, or damaged.
pub(super) fn id(labels: &HashMap<String, String>) -> Option<InstanceRef> {
    Some(InstanceRef {
        app: AppId::parse(labels.get(LABEL_APP)?).ok()?,
        version: VersionId::parse(labels.get(LABEL_VERSION)?).ok()?,
        instance: InstanceId::parse(labels.get(LABEL_INSTANCE)?).ok()?,
    })
}

pub(super) fn labels(container: &ContainerInspectResponse) -> HashMap<String, String> {
    container.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default()
}

pub(super) fn status(id: &InstanceRef, container: &ContainerInspectResponse) -> InstanceStatus {
    let unknown = ContainerState::default();
    let of = container.state.as_ref().unwrap_or(&unknown);
    let (state, reason) = state(of);
    InstanceStatus {
        id: id.clone(),
        reason,
        address: labels(container).get(LABEL_ADDRESS).and_then(|address| address.parse().ok()),
        runtime_id: container.id.as_deref().unwrap_or_default().chars().take(12).collect(),
        started_at: time(of.started_at.as_deref()),
        ended_at: time(of.finished_at.as_deref()).filter(|_| state.has_ended()),
        state,
    }
}

fn state(of: &ContainerState) -> (InstanceState, String) {
    let code = of.exit_code.and_then(|code| i32::try_from(code).ok());
    match of.status {
        Some(Status::RUNNING) => (InstanceState::Running, "running".to_owned()),
        Some(Status::PAUSED) => (InstanceState::Running, "paused by somebody".to_owned()),
        Some(Status::RESTARTING) => (InstanceState::Running, "restarted by the engine".to_owned()),
        Some(Status::CREATED) => (InstanceState::Created, "not started yet".to_owned()),
        Some(Status::EXITED | Status::DEAD) if of.oom_killed == Some(true) => {
            (InstanceState::OutOfMemory, "the kernel killed it as it outgrew its memory limit".to_owned())
        }
        Some(Status::EXITED | Status::DEAD) => {
            (InstanceState::Exited { code, signal: None }, ended(code, of))
        }
        other => (
            InstanceState::Unknown,
            format!("the engine says `{}`", other.map_or("nothing".into(), |it| it.to_string())),
        ),
    }
}

/// A shell and an engine alike write 128 + N for a process that signal N killed.
fn ended(code: Option<i32>, of: &ContainerState) -> String {
    let mut reason = match code {
        Some(code @ 129..=192) => {
            format!("ended with code {code}, as if signal {} had killed it", code - 128)
        }
        Some(code) => format!("ended with code {code}"),
        None => "ended".to_owned(),
    };
    if let Some(error) = of.error.as_deref().filter(|error| !error.is_empty()) {
        reason = format!("{reason}: {}", printable(error));
    }
    reason
}

/// Engines write the year 1 for what has not been.
pub(super) fn time(text: Option<&str>) -> Option<SystemTime> {
    let time = SystemTime::from(text?.parse::<jiff::Timestamp>().ok()?);
    (time > UNIX_EPOCH).then_some(time)
}
