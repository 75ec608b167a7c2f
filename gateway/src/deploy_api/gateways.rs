//! What gateways say of themselves in the registry.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deploy::autoscale::Load;
use deploy::engine::Gateways;
use deploy::lifecycle::Complaint;
use deploy::model::Millis;
use deploy::rollout::Traffic;
use discovery::registry::State;
use tokio::sync::watch;
use topology::{AppId, InstanceKey, VersionId};

use super::complaints::Complaints;
use super::figures::Figures;
use crate::control::report::{FAMILY, Report};
use crate::worker::Shared;

/// A gateway whose session has ended may serve on with what it had: it is waited for as long as operators are given to notice.
/// One that comes back, or says goodbye by coming back with the same id, ends the wait.
const LOST_GATEWAY: Duration = Duration::from_secs(60);

/// The gateways of a registry, by their reports, and the figures of the one in this process.
pub(super) struct ReportedGateways {
    state: watch::Receiver<State>,
    /// Of this process: it is there, also before it has reported.
    own: String,
    known: Mutex<Known>,
    figures: Figures,
    complaints: Arc<Complaints>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of the state that was read last.
    revision: u64,
    /// `None`: what stands there is no report.
    reports: BTreeMap<String, Option<Report>>,
    /// Those that are gone, what they had applied, and since when.
    lost: BTreeMap<String, (u64, Instant)>,
}

impl Known {
    fn follow(&mut self, reports: BTreeMap<String, Option<Report>>, now: Instant) {
        for (id, report) in std::mem::take(&mut self.reports) {
            if !reports.contains_key(&id) {
                let applied = report.map_or(0, |report| report.applied);
                self.lost.insert(id, (applied, now));
            }
        }
        self.lost.retain(|id, (_, since)| !reports.contains_key(id) && now - *since < LOST_GATEWAY);
        self.reports = reports;
    }

    fn has_applied(&self, own: &str, revision: u64, now: Instant) -> bool {
        let reported =
            |report: &Option<Report>| report.as_ref().is_some_and(|report| report.applied >= revision);
        self.reports.contains_key(own)
            && self.reports.values().all(reported)
            && self.lost.values().all(|(applied, since)| *applied >= revision || now - *since >= LOST_GATEWAY)
    }

    /// Whether anybody has a request under way there; `None`: somebody does not say.
    fn is_busy(&self, name: &str) -> Option<bool> {
        let told: Vec<_> = self.reports.values().map(|report| report.as_ref()?.is_busy(name)).collect();
        if told.contains(&Some(true)) {
            return Some(true);
        }
        told.into_iter().all(|told| told == Some(false)).then_some(false)
    }
}

impl ReportedGateways {
    pub(super) fn new(
        state: watch::Receiver<State>,
        own: String,
        shared: Arc<Shared>,
        complaints: Arc<Complaints>,
    ) -> Self {
        Self { state, own, known: Mutex::default(), figures: Figures::new(shared), complaints }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.borrow();
        if known.revision != state.revision || known.reports.is_empty() {
            known.revision = state.revision;
            known.follow(read(&state), Instant::now());
        }
        drop(state);
        known
    }
}

fn read(state: &State) -> BTreeMap<String, Option<Report>> {
    let from = (Bound::Included(FAMILY), Bound::Unbounded);
    let own = state.entries.range::<_, str>(from).take_while(|(key, _)| key.as_str().starts_with(FAMILY));
    own.map(|(key, entry)| {
        (key.as_str()[FAMILY.len()..].to_owned(), serde_json::from_slice(&entry.value).ok())
    })
    .collect()
}

#[async_trait]
impl Gateways for ReportedGateways {
    fn has_applied(&self, revision: u64) -> bool {
        self.known().has_applied(&self.own, revision, Instant::now())
    }

    /// One stands for any number.
    async fn in_flight(&self, app: &AppId, instance: &InstanceKey) -> Option<u64> {
        let name = format!("{app}/{}/{}", instance.version, instance.instance);
        self.known().is_busy(&name).map(u64::from)
    }

    fn traffic(&self, app: &AppId, version: &VersionId, since: Millis) -> Option<Traffic> {
        Some(self.figures.traffic(app, version, since))
    }

    fn load(&self, app: &AppId) -> Load {
        self.figures.load(app)
    }

    fn complaint(&self, app: &AppId, instance: &InstanceKey) -> Option<Complaint> {
        self.complaints.of(app, instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(applied: u64) -> Option<Report> {
        Some(Report { applied, ..Report::default() })
    }

    #[test]
    fn all_are_waited_for_also_those_that_have_just_gone() {
        let (mut known, began) = (Known::default(), Instant::now());
        assert!(!known.has_applied("a", 0, began), "the own one has not reported yet");
        known.follow([("a".to_owned(), report(7)), ("b".to_owned(), report(5))].into(), began);
        assert!(known.has_applied("a", 5, began) && !known.has_applied("a", 6, began));
        known.follow([("a".to_owned(), report(7))].into(), began);
        assert!(known.has_applied("a", 5, began) && !known.has_applied("a", 6, began));
        assert!(known.has_applied("a", 7, began + LOST_GATEWAY));
        known.follow([("a".to_owned(), report(7)), ("b".to_owned(), report(7))].into(), began);
        assert!(known.has_applied("a", 7, began), "it is back");
        known.follow([("a".to_owned(), report(7)), ("b".to_owned(), None)].into(), began);
        assert!(!known.has_applied("a", 1, began), "nobody knows what it has applied");
        assert_eq!(known.is_busy("shop/v1/c1"), None);
    }

    #[test]
    fn one_that_is_busy_is_enough() {
        let busy = Report { departing: vec!["shop/v1/c1".into()], departing_total: 1, ..Report::default() };
        let mut known = Known::default();
        known.follow([("a".to_owned(), Some(busy)), ("b".to_owned(), report(1))].into(), Instant::now());
        assert_eq!((known.is_busy("shop/v1/c1"), known.is_busy("shop/v1/c2")), (Some(true), Some(false)));
    }
}
