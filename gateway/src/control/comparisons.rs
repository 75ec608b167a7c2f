//! Endpoints compared with each other, interval by interval, and with what they did before, for apps that
//! want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use healthcheck::outlier::{Cause, Sample, find_slow, find_unsuccessful};
use topology::{AppId, Outliers};

use super::concurrency::Concurrency;
use crate::table::{CompiledApp, Pool, PooledEndpoint, RoutingTable};

/// How late a new app's wish to be compared may be noticed; looking through 10,000 apps takes a tenth of a
/// millisecond.
const NOTICE: Duration = Duration::from_secs(1);

/// An outlier.
pub struct Found {
    pub app: Arc<CompiledApp>,
    pub endpoint: Arc<PooledEndpoint>,
    pub cause: Cause,
    pub why: String,
}

/// What was last read of one app's endpoints.
struct Compared {
    at: Instant,
    /// By endpoint, since the beginning.
    totals: HashMap<u64, Sample>,
    concurrency: Concurrency,
}

#[derive(Default)]
pub struct Comparisons {
    apps: HashMap<AppId, Compared>,
    /// When the apps were last looked through, and which table had them.
    noticed: Option<(Instant, u64)>,
}

impl Comparisons {
    /// The outliers of the intervals that end now.
    pub fn look(&mut self, table: &RoutingTable, now: Instant) -> Vec<Found> {
        self.notice(table, now);
        let mut found = Vec::new();
        for (id, compared) in &mut self.apps {
            let Some(app) = table.app(id) else { continue };
            compared.concurrency.look(app, now);
            let settings = app.spec.outliers();
            if !settings.compares() || now - compared.at < settings.interval {
                continue;
            }
            compared.at = now;
            let former = std::mem::take(&mut compared.totals);
            for pool in &app.tcp.pools {
                let samples = take_samples(pool, &former, &mut compared.totals);
                found.extend(outliers(app, pool, &samples, &settings));
            }
        }
        found
    }

    /// Follows apps that come, go, and change their mind.
    fn notice(&mut self, table: &RoutingTable, now: Instant) {
        let revision = table.snapshot.revision.0;
        let is_fresh = |(at, seen): (Instant, u64)| seen == revision || now - at < NOTICE;
        if self.noticed.is_some_and(is_fresh) {
            return;
        }
        self.noticed = Some((now, revision));
        let compares = |app: &CompiledApp| {
            let is_adaptive = app.spec.capacity().is_some_and(|limits| limits.adaptive.is_some());
            is_adaptive || app.spec.outliers().compares()
        };
        self.apps.retain(|id, _| table.app(id).is_some_and(|app| compares(app)));
        for app in table.apps.values().filter(|app| compares(app)) {
            let begin = || Compared { at: now, totals: totals(app), concurrency: Concurrency::begin(now) };
            self.apps.entry(app.id.clone()).or_insert_with(begin);
        }
    }
}

fn totals(app: &CompiledApp) -> HashMap<u64, Sample> {
    app.endpoints.iter().map(|endpoint| (endpoint.live.id, total(endpoint))).collect()
}

fn total(endpoint: &PooledEndpoint) -> Sample {
    endpoint.live.tally.get().map_or_else(Sample::default, crate::table::Tally::total)
}

/// What every endpoint of the pool did since `former`. Who is out now did nothing that could be compared.
fn take_samples(
    pool: &Pool,
    former: &HashMap<u64, Sample>,
    totals: &mut HashMap<u64, Sample>,
) -> Vec<Sample> {
    let sample = |endpoint: &Arc<PooledEndpoint>| {
        let total = total(endpoint);
        totals.insert(endpoint.live.id, total);
        match former.get(&endpoint.live.id) {
            Some(former) if endpoint.is_available() => total.since(former),
            _ => Sample::default(),
        }
    };
    pool.endpoints.iter().map(sample).collect()
}

fn outliers(app: &Arc<CompiledApp>, pool: &Pool, samples: &[Sample], settings: &Outliers) -> Vec<Found> {
    let found = |position: usize, cause, why| Found {
        app: app.clone(),
        endpoint: pool.endpoints[position].clone(),
        cause,
        why,
    };
    let mut all = Vec::new();
    if let Some(settings) = &settings.success_rate {
        all.extend(find_unsuccessful(samples, settings).into_iter().map(|one| {
            let [rate, mean, threshold] = [one.rate, one.mean, one.threshold].map(|rate| 100.0 * rate);
            let why =
                format!("{rate:.1} % succeed, {mean:.1} % with the others; the least is {threshold:.1} %");
            found(one.position, Cause::SuccessRate, why)
        }));
    }
    if let Some(settings) = &settings.latency {
        all.extend(find_slow(samples, settings).into_iter().map(|one| {
            let [mean, median] = [one.mean, one.median].map(|latency| 1e3 * latency.as_secs_f64());
            found(
                one.position,
                Cause::Latency,
                format!("answers in {mean:.1} ms, the others in {median:.1} ms"),
            )
        }));
    }
    all
}
