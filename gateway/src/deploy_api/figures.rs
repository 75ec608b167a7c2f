//! What requests to an app looked like, by the counters of the gateway in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deploy::autoscale::Load;
use deploy::model::Millis;
use deploy::rollout::Traffic;
use topology::{AppId, VersionId};

use crate::metrics::{HistogramTotal, ServiceOutcome};
use crate::worker::Shared;

/// What nobody has asked about for so long is forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// Rates are means over this long: a burst of a second starts no instance.
const WINDOW: Duration = Duration::from_secs(10);
/// Of requests, slower than so many are not looked at.
const PERCENTILE: f64 = 0.99;

pub(super) struct Figures {
    shared: Arc<Shared>,
    /// What a version had come to when it was first asked about since then.
    baselines: Mutex<HashMap<(AppId, VersionId, Millis), Baseline>>,
    windows: Mutex<HashMap<AppId, Window>>,
}

struct Baseline {
    outcome: ServiceOutcome,
    asked: Instant,
}

struct Window {
    began: Instant,
    outcome: ServiceOutcome,
    /// Of the window before.
    load: Load,
    asked: Instant,
}

impl Figures {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, baselines: Mutex::default(), windows: Mutex::default() }
    }

    /// Since the first call with the same `since`, which an engine makes within a tick of it.
    pub(super) fn traffic(&self, app: &AppId, version: &VersionId, since: Millis) -> Traffic {
        let now = Instant::now();
        let outcome = self.total(app, Some(version));
        let mut baselines = locked(&self.baselines);
        baselines.retain(|_, baseline| now - baseline.asked < FORGET);
        let baseline = baselines
            .entry((app.clone(), version.clone(), since))
            .or_insert_with(|| Baseline { outcome: outcome.clone(), asked: now });
        baseline.asked = now;
        let former = &baseline.outcome;
        Traffic {
            requests: outcome.requests.saturating_sub(former.requests),
            errors: outcome.errors.saturating_sub(former.errors),
            latency: outcome.seconds.since(&former.seconds).quantile(PERCENTILE),
        }
    }

    /// Over the last whole window. Processors are not measured.
    pub(super) fn load(&self, app: &AppId) -> Load {
        let now = Instant::now();
        let mut windows = locked(&self.windows);
        windows.retain(|_, window| now - window.asked < FORGET);
        let Some(window) = windows.get_mut(app) else {
            let outcome = self.total(app, None);
            windows.insert(app.clone(), Window { began: now, outcome, load: Load::default(), asked: now });
            return Load::default();
        };
        window.asked = now;
        let lasted = now - window.began;
        if lasted >= WINDOW {
            let outcome = self.total(app, None);
            let requests = outcome.requests.saturating_sub(window.outcome.requests);
            window.load = Load {
                requests: Some(requests as f64 / lasted.as_secs_f64()),
                cpu: None,
                latency: outcome.seconds.since(&window.outcome.seconds).quantile(PERCENTILE),
            };
            (window.began, window.outcome) = (now, outcome);
        }
        window.load
    }

    fn total(&self, app: &AppId, version: Option<&VersionId>) -> ServiceOutcome {
        let table = self.shared.table.load();
        let mut total = ServiceOutcome::default();
        let Some(app) = table.app(app) else { return total };
        for service in app.services.iter().filter(|service| version.is_none() || service.version() == version)
        {
            let outcome = service.outcome();
            total.requests += outcome.requests;
            total.errors += outcome.errors;
            add(&mut total.seconds, &outcome.seconds);
        }
        total
    }
}

fn add(total: &mut HistogramTotal, part: &HistogramTotal) {
    for (sum, bucket) in total.buckets.iter_mut().zip(part.buckets) {
        *sum += bucket;
    }
    total.sum_seconds += part.sum_seconds;
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
