//! What apps wait for because of each other, and what they have to know of each other.

use std::collections::BTreeMap;

use topology::AppId;

use super::world::{AppView, World};
use crate::dependencies::Dependencies;
use crate::model::{Phase, Status};

pub(super) fn edges(world: &World) -> Dependencies {
    let edge =
        |(app, view): (&AppId, &AppView)| Some((app.clone(), view.deployment.as_ref()?.depends_on.clone()));
    Dependencies::new(world.apps.iter().filter_map(edge))
}

/// What an app waits for before anything of it starts.
pub(super) fn start_blocked(world: &World, app: &AppId, dependencies: &Dependencies) -> Option<String> {
    if let Err(cycle) = dependencies.check(app) {
        return Some(cycle.to_string());
    }
    dependencies.of(app).iter().find_map(|on| {
        let Some(view) = world.apps.get(on).filter(|view| view.deployment.is_some()) else {
            let is_there = world.has_addresses(on);
            return (!is_there).then(|| format!("waits for {on}, which nobody has deployed"));
        };
        let serves = view.records.values().any(|record| record.value.phase == Phase::Serving);
        (!serves).then(|| match view.deployment.as_ref().is_some_and(|deployment| deployment.running) {
            true => format!("waits for {on}, of which nothing serves yet"),
            false => format!("waits for {on}, which is stopped"),
        })
    })
}

/// What an app waits for before the last of it stops: apps that depend on it and stop too.
pub(super) fn stop_blocked(world: &World, app: &AppId, dependencies: &Dependencies) -> Option<String> {
    dependencies.dependents(app).find_map(|dependent| {
        let view = world.apps.get(dependent)?;
        let stops = view.deployment.as_ref().is_none_or(|deployment| !deployment.running);
        let runs = view.records.values().any(|record| record.value.phase < Phase::Stopping);
        (stops && runs && dependencies.check(app).is_ok())
            .then(|| format!("waits for {dependent}, which depends on it, to stop"))
    })
}

/// What an app's instances have to know: which release of each app that it depends on serves.
pub(super) fn to_tell(world: &World, view: &AppView) -> BTreeMap<String, String> {
    let on = view.deployment.iter().flat_map(|deployment| &deployment.depends_on);
    on.filter_map(|on| {
        let rollout = world.apps.get(on)?.rollout.as_ref()?;
        let stable = rollout.value.stable.as_ref().filter(|_| rollout.value.status != Status::Idle)?;
        Some((on.to_string(), stable.to_string()))
    })
    .collect()
}
