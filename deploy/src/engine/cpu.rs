//! What instances use of their processors, where autoscaling wants to know.

use std::time::Duration;

use topology::{AppId, HostId};

use super::Parts;
use super::world::{AppView, World};
use crate::model::{Millis, Phase, Record};
use crate::runtime::{InstanceRef, Runtime};

/// Means are over this long: a burst of a second starts no instance.
const WINDOW: Millis = 10_000;

/// What one instance uses.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuSight {
    /// Whether anybody wants to know.
    is_wanted: bool,
    /// When the window began, and what it had used by then since it was started.
    began: Option<(Millis, Duration)>,
    /// Processors, over the last whole window.
    uses: Option<f64>,
}

impl CpuSight {
    pub(super) fn follow(&mut self, view: &AppView, record: &Record) {
        let scales = view.deployment.as_ref().and_then(|deployment| deployment.autoscale.as_ref());
        let is_wanted = record.phase == Phase::Serving && scales.is_some_and(|policy| policy.cpu.is_some());
        if !is_wanted {
            *self = Self::default();
        }
        self.is_wanted = is_wanted;
    }

    fn is_due(&self, now: Millis) -> bool {
        self.is_wanted && self.began.is_none_or(|(began, _)| now.saturating_sub(began) >= WINDOW)
    }

    fn take(&mut self, used: Duration, now: Millis) {
        if let Some((began, before)) = self.began {
            let lasted = Duration::from_millis(now.saturating_sub(began));
            // Less than before: it is not counted from the same beginning.
            let more = used.checked_sub(before).filter(|_| !lasted.is_zero());
            self.uses = more.map(|more| more.as_secs_f64() / lasted.as_secs_f64());
        }
        self.began = Some((now, used));
    }
}

impl Parts {
    /// Asks a host about those of its instances whose window is over.
    pub(super) async fn measure_cpu(&self, host: &HostId, runtime: &dyn Runtime) {
        let now = (self.clock)();
        let due: Vec<InstanceRef> = {
            let sightings = self.sightings();
            let due = sightings
                .instances
                .iter()
                .filter(|(_, sighting)| sighting.host.as_ref() == Some(host) && sighting.cpu.is_due(now));
            due.filter_map(|((app, id), sighting)| {
                let version = sighting.version.clone()?;
                Some(InstanceRef { app: app.clone(), version, instance: id.clone() })
            })
            .collect()
        };
        if due.is_empty() {
            return;
        }
        let asked = tokio::time::timeout(self.settings.call_timeout, runtime.cpu_used(&due)).await;
        let used = match asked {
            Ok(Ok(used)) => used,
            Ok(Err(error)) => return tracing::debug!(%host, %error, "what instances use is not known"),
            Err(_) => return tracing::debug!(%host, "does not say in time what instances use"),
        };
        let now = (self.clock)();
        let mut sightings = self.sightings();
        for (id, used) in used {
            if let Some(sighting) = sightings.instances.get_mut(&(id.app, id.instance)) {
                sighting.cpu.take(used, now);
            }
        }
    }

    /// Mean share of what an app's serving instances may use; `None`: nobody has measured one of them yet.
    pub(super) fn cpu_load(&self, world: &World, app: &AppId, view: &AppView) -> Option<f64> {
        let sightings = self.sightings();
        let rollout = &view.rollout.as_ref()?.value;
        let share = |(id, record): (&topology::InstanceId, &super::world::Versioned<Record>)| {
            let uses = sightings.instances.get(&(app.clone(), id.clone()))?.cpu.uses?;
            let limit = rollout.release(&record.value.release)?.spec.resources.cpu;
            let may = if limit > 0 { limit } else { world.hosts.get(&record.value.host)?.cpu };
            Some(uses * 1000.0 / f64::from(may.max(1)))
        };
        let shares: Vec<f64> = view.records.iter().filter_map(share).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_the_mean_of_a_whole_window() {
        let mut sight = CpuSight { is_wanted: true, ..CpuSight::default() };
        assert!(sight.is_due(5));
        sight.take(Duration::from_secs(3), 1_000);
        assert_eq!(sight.uses, None);
        assert!(!sight.is_due(10_999) && sight.is_due(11_000));
        sight.take(Duration::from_secs(8), 11_000);
        assert_eq!(sight.uses, Some(0.5));
        sight.take(Duration::from_secs(1), 21_000);
        assert_eq!(sight.uses, None, "it was started anew behind our back");
    }
}
