//! What one change costs among all of these, and a thousand a second.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use benches::clock::{Moment, millis};
use benches::distribution::Distribution;
use benches::load::{Plan, Report};
use benches::usage;
use benches::witness::Witness;
use fastrand::Rng;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tests::{Gateway, yields};
use tokio::runtime::Runtime;

use super::endpoint::Endpoints;
use super::site::{Kind, Shape, Site, address_key, host};
use super::{Goals, PATIENCE, Settings};

/// The app whose endpoint comes and goes; others are under load.
const CHANGED: u32 = 4_711;
/// A request every millisecond, nearly all of them to the endpoint that comes: what a figure cannot be finer than.
const RATE: u32 = 1_000;
pub const CONNECTIONS: u32 = 8;
/// One that got no request for this long gets no more.
const GONE: Duration = Duration::from_millis(100);
/// Milliseconds, p99, from the acknowledgement.
const ROUTED_GOAL: f64 = 5.0;
/// Writes under way at once.
const WRITERS: usize = 64;
/// How long the gateway may take for what was written until then.
const LAG_GOAL: f64 = 1_000.0;

pub fn measure(
    settings: &Settings,
    runtime: &Runtime,
    (site, kind, endpoints): (&Site, Kind, &Endpoints),
    gateway: &Gateway,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    one_by_one(settings, runtime, (site, kind), gateway, goals)?;
    without_pause(settings, runtime, (site, kind, endpoints), gateway, goals)
}

pub fn load(gateway: &Gateway, apps: impl Iterator<Item = u32>) -> Plan {
    let hosts = apps.map(|app| host(app, 0)).collect();
    Plan { address: gateway.web(), hosts, connections: CONNECTIONS, rate: RATE }
}

fn one_by_one(
    settings: &Settings,
    runtime: &Runtime,
    (site, kind): (&Site, Kind),
    gateway: &Gateway,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let witness = Witness::start("witness");
    let app = CHANGED % settings.apps;
    let load = load(gateway, std::iter::once(app)).start();
    let value = format!(r#"{{"address": "{}", "weight": 1000}}"#, witness.address());
    let (mut comes, mut goes) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        let key = address_key(app, &format!("w{round}"));
        witness.forget();
        runtime.block_on(site.put(&key, value.clone()))?;
        let written = Moment::now();
        let first = yields(PATIENCE, "the new endpoint is asked", || witness.asked().first);
        runtime.block_on(site.delete(&key))?;
        let deleted = Moment::now();
        let last = yields(PATIENCE, "the deleted endpoint is left alone", || {
            witness.asked().last.filter(|last| Moment::now().millis_since(*last) >= millis(GONE))
        });
        comes.push(first.millis_since(written));
        goes.push(last.millis_since(deleted));
        goals.line("round", json!({
            "registry": kind.name(), "comes_ms": first.millis_since(written), "goes_ms": last.millis_since(deleted),
        }));
    }
    let report = load.stop();
    failures(&report, goals, kind)?;
    for (what, values) in [("comes", comes), ("goes", goes)] {
        let values = Distribution::from_iter(values);
        let name = kind.name();
        goals.figure(&format!("{name}: one endpoint {what}, median"), values.median(), "ms", None);
        goals.figure(
            &format!("{name}: one endpoint {what}, p99"),
            values.quantile(0.99),
            "ms",
            Some(ROUTED_GOAL),
        );
    }
    Ok(())
}

/// A load on apps that do not change: before, while as much is written that is none of the gateway's business, which shows what the
/// registry and its writer take on the same machine, and while other apps change.
fn without_pause(
    settings: &Settings,
    runtime: &Runtime,
    (site, kind, endpoints): (&Site, Kind, &Endpoints),
    gateway: &Gateway,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let stretch = Duration::from_secs(settings.seconds);
    let load = load(gateway, 0..CONNECTIONS).start();
    thread::sleep(stretch);
    let others_began = load.elapsed();
    storm(settings, runtime, endpoints, |key, value| async move { site.put_elsewhere(&key, value).await })?;
    let began = load.elapsed();
    let before = usage::of_threads(gateway.pid());
    let (written, revision) =
        storm(settings, runtime, endpoints, |key, value| async move { site.put(&key, value).await })?;
    let lag = lag(gateway, revision);
    let ended = load.elapsed();
    let after = usage::of_threads(gateway.pid());
    let report = load.stop();
    failures(&report, goals, kind)?;
    let name = kind.name();
    let seconds = (ended - began).as_secs_f64();
    goals.figure(
        &format!("{name}: changes a second that were written"),
        f64::from(written) / seconds,
        "",
        None,
    );
    goals.figure(&format!("{name}: from the last of them to its table"), millis(lag), "ms", Some(LAG_GOAL));
    for (thread, used) in usage::difference(&before, &after) {
        goals.line("thread", json!({"registry": name, "during": "changes", "thread": thread, "cores": used.as_secs_f64() / seconds}));
        if thread == "sluice" {
            let cores = used.as_secs_f64() / seconds;
            goals.figure(
                &format!("{name}: cores of the control plane meanwhile, probes among it"),
                cores,
                "",
                None,
            );
        }
    }
    let rate = settings.changes_per_second;
    for (what, time) in [
        ("before changes".to_owned(), Duration::ZERO..others_began),
        (format!("during {rate} writes a second that are others'"), others_began..began),
        (format!("during {rate} changes a second"), began..ended),
    ] {
        latency(&report, &format!("{name}: requests {what}"), &time, goals);
    }
    Ok(())
}

pub fn latency(report: &Report, what: &str, time: &Range<Duration>, goals: &mut Goals<'_>) {
    let window = report.window(time);
    goals.line("latency", json!({"what": what, "seen": window.to_json()}));
    goals.figure(&format!("{what}, median"), window.latency.median(), "ms", None);
    goals.figure(&format!("{what}, p99"), window.latency.quantile(0.99), "ms", None);
}

pub fn failures(report: &Report, goals: &mut Goals<'_>, kind: Kind) -> anyhow::Result<()> {
    let whole = report.whole();
    goals.line("load", json!({"registry": kind.name(), "seen": whole.to_json()}));
    anyhow::ensure!(whole.failures.is_empty() && whole.closed == 0, "requests failed: {:?}", whole.failures);
    Ok(())
}

/// Weights of endpoints of all apps, so many a second, for a stretch, each given to `put`. Returns how many, and the registry's
/// revision then.
pub fn storm<F: Future<Output = anyhow::Result<u64>>>(
    settings: &Settings,
    runtime: &Runtime,
    endpoints: &Endpoints,
    put: impl Fn(String, String) -> F,
) -> anyhow::Result<(u32, u64)> {
    let changes = settings.changes_per_second * settings.seconds as u32;
    let period = Duration::from_secs(1) / settings.changes_per_second;
    let began = Instant::now();
    let shape = settings.shape();
    let put = &put;
    let writes = futures::stream::iter(0..changes).map(|number| async move {
        tokio::time::sleep_until((began + period * number).into()).await;
        let (key, value) = some_change(shape, endpoints, number);
        put(key, value).await
    });
    let written = runtime.block_on(writes.buffer_unordered(WRITERS).try_collect::<Vec<_>>())?;
    Ok((changes, written.into_iter().max().unwrap_or_default()))
}

/// From now until the gateway says that all up to `revision` is in its table.
fn lag(gateway: &Gateway, revision: u64) -> Duration {
    let last = Instant::now();
    yields(PATIENCE, "the gateway has them all", || {
        let applied = gateway.admin_json("/v1/revisions")["applied"].as_u64();
        applied.is_some_and(|applied| applied >= revision).then_some(())
    });
    last.elapsed()
}

/// An endpoint that stays where it is, with another weight; never of an app under load.
fn some_change(shape: Shape, endpoints: &Endpoints, number: u32) -> (String, String) {
    let mut rng = Rng::with_seed(u64::from(number));
    let app = rng.u32(CONNECTIONS.min(shape.apps - 1)..shape.apps);
    let at = rng.u32(..shape.endpoints_per_app);
    let address = endpoints.address(app * shape.endpoints_per_app + at);
    let value = format!(r#"{{"address": "{address}", "weight": {}}}"#, rng.u16(1..1_000));
    (address_key(app, &format!("c{at}")), value)
}
