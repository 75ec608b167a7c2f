//! A gateway that nobody changes: what probing takes, and whom a scrape disturbs.

use std::thread;
use std::time::{Duration, Instant};

use benches::clock::millis;
use benches::distribution::Distribution;
use benches::usage;
use serde_json::json;
use tests::{Config, Gateway};
use tokio::runtime::Runtime;

use super::changes::{CONNECTIONS, failures, latency, load};
use super::endpoint::Endpoints;
use super::site::{Kind, Shape, Site};
use super::{Goals, Settings, await_serving};

/// As long as every endpoint needs to be probed twice.
const WARM_UP: Duration = Duration::from_secs(12);
const PROMISED: &str = "5s";
const PROMISED_OF_A_TENTH: &str = "500ms";
/// Milliseconds. More than that, and it grows: not all can be sent.
const LATE_GOAL: f64 = 100.0;
/// Between two scrapes: far more often than anybody's Prometheus.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// Cores.
const PROBING_GOAL: f64 = 1.0;
const TENTH: Duration = Duration::from_millis(100);
/// What is spread evenly has no peaks; a machine of two cores has.
const BUSIEST_GOAL: f64 = 1.5;
/// Milliseconds.
const SCRAPE_GOAL: f64 = 100.0;

pub fn measure(
    settings: &Settings,
    runtime: &Runtime,
    endpoints: &Endpoints,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    kept(settings, runtime, endpoints, goals)?;
    let shape = Shape { interval: PROMISED, ..settings.shape() };
    let (_site, gateway) = warm(runtime, shape, endpoints, |config| config)?;
    probing((settings, "as many connections as there are files for"), endpoints, &gateway, goals);
    scrapes(settings, &gateway, goals)
}

/// As many probes a second as the whole site has, of a tenth of its endpoints: whose connections all can be kept where a
/// process may have a few ten thousand files.
fn kept(
    settings: &Settings,
    runtime: &Runtime,
    endpoints: &Endpoints,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let full = settings.shape();
    let shape = Shape { interval: PROMISED_OF_A_TENTH, apps: (full.apps / 10).max(1), ..full };
    let keeps = format!("probe_connections = {}", shape.endpoints());
    let (_site, gateway) = warm(runtime, shape, endpoints, |config| config.gateway(&keeps))?;
    probing((settings, "all connections kept"), endpoints, &gateway, goals);
    Ok(())
}

/// A site, and a gateway on it that has probed everybody.
fn warm(
    runtime: &Runtime,
    shape: Shape,
    endpoints: &Endpoints,
    change: impl FnOnce(Config) -> Config,
) -> anyhow::Result<(Site, Gateway)> {
    let site = runtime.block_on(Site::fill(Kind::Embedded, shape, endpoints))?;
    let gateway = Gateway::start(&change(site.config()));
    await_serving(&gateway, shape);
    thread::sleep(WARM_UP);
    Ok((site, gateway))
}

/// Without any request.
fn probing(
    (settings, how): (&Settings, &str),
    endpoints: &Endpoints,
    gateway: &Gateway,
    goals: &mut Goals<'_>,
) {
    let (began, before, probed) = (Instant::now(), usage::of_threads(gateway.pid()), endpoints.asked());
    let tenths = tenths(settings, endpoints);
    let seconds = began.elapsed().as_secs_f64();
    let used = usage::difference(&before, &usage::of_threads(gateway.pid()));
    let probes = endpoints.asked() - probed;
    let cores: f64 = used.iter().map(|(_, used)| used.as_secs_f64() / seconds).sum();
    for (thread, used) in &used {
        goals.line(
            "thread",
            json!({"during": format!("probing, {how}"), "thread": thread, "cores": used.as_secs_f64() / seconds}),
        );
    }
    goals.figure(&format!("{how}: probes a second"), probes as f64 / seconds, "", None);
    let metrics = gateway.metrics();
    let gauge = |name| metrics.sum(name, &[]).unwrap_or(f64::NAN);
    goals.figure(&format!("{how}: of them kept"), gauge("sluice_probe_connections"), "", None);
    goals.figure(
        &format!("{how}: how late probes are"),
        gauge("sluice_probe_lag_seconds") * 1e3,
        "ms",
        Some(LATE_GOAL),
    );
    goals.figure(
        &format!("{how}: the busiest tenth of a second, of the mean"),
        tenths.max() / (probes as f64 / seconds * TENTH.as_secs_f64()),
        "",
        Some(BUSIEST_GOAL),
    );
    goals.figure(&format!("{how}: cores of the process while it only probes"), cores, "", Some(PROBING_GOAL));
    let down = metrics.sum("sluice_endpoints", &[("state", "down")]);
    goals.figure(&format!("{how}: endpoints that are taken for dead"), down.unwrap_or(0.0), "", Some(0.0));
}

/// Probes a tenth of a second.
fn tenths(settings: &Settings, endpoints: &Endpoints) -> Distribution {
    let began = Instant::now();
    let mut before = endpoints.asked();
    let mut counts = Vec::new();
    for tenth in 1..=settings.seconds as u32 * 10 {
        thread::sleep((TENTH * tenth).saturating_sub(began.elapsed()));
        let asked = endpoints.asked();
        counts.push((asked - before) as f64);
        before = asked;
    }
    Distribution::from_iter(counts)
}

fn scrapes(settings: &Settings, gateway: &Gateway, goals: &mut Goals<'_>) -> anyhow::Result<()> {
    let stretch = Duration::from_secs(settings.seconds);
    let load = load(gateway, 0..CONNECTIONS).start();
    thread::sleep(stretch);
    let began = load.elapsed();
    let (mut took, mut bytes) = (Vec::new(), 0);
    while load.elapsed() - began < stretch {
        let asked = Instant::now();
        let answer = gateway.admin_get("/metrics");
        anyhow::ensure!(answer.status == 200, "a scrape was answered with {}", answer.status);
        took.push(millis(asked.elapsed()));
        bytes = answer.body.len();
        thread::sleep(SCRAPE_EVERY.saturating_sub(asked.elapsed()));
    }
    let ended = load.elapsed();
    let report = load.stop();
    failures(&report, goals, Kind::Embedded)?;
    goals.line("scrapes", json!({"ms": took, "bytes": bytes}));
    let took = Distribution::from_iter(took);
    goals.figure("a scrape, median", took.median(), "ms", Some(SCRAPE_GOAL));
    goals.figure("a scrape, max", took.max(), "ms", None);
    goals.figure("a scrape's size", bytes as f64 / 1e6, "MB", None);
    latency(&report, "requests without a scrape", &(Duration::ZERO..began), goals);
    latency(&report, "requests with a scrape a second", &(began..ended), goals);
    Ok(())
}
