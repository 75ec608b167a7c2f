//! A gateway with 100,000 hosts, 10,000 apps and 100,000 endpoints: what it holds, how soon it serves, what a change costs
//! and whom it disturbs, what probing takes, and what a scrape does.
//!
//! Endpoints are one socket at 100,000 addresses of the loopback, so they cost what their connections cost. Each part stands
//! for itself and can be asked for alone.

mod changes;
mod endpoint;
mod fleet;
mod site;
mod start;
mod steady;

use std::time::Duration;

use benches::record::Record;
use serde_json::json;
use tests::{Gateway, RawClient, yields};

use endpoint::Endpoints;
use site::{Kind, Shape, host};

/// Between two probes of an endpoint, but where it is probing that is measured: on a machine of two cores nothing else could be
/// told from 20,000 probes a second and their answers.
const RARELY: &str = "60s";
/// For anything that must happen.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Which parts; all by default.
    #[arg(value_enum)]
    parts: Vec<Part>,
    #[arg(long, default_value_t = 10_000)]
    apps: u32,
    #[arg(long, default_value_t = 10)]
    hosts_per_app: u32,
    #[arg(long, default_value_t = 10)]
    endpoints_per_app: u32,
    /// Of each stretch under load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Endpoints that come and go.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Changes a second, where they never end.
    #[arg(long, default_value_t = 1_000)]
    changes_per_second: u32,
    /// Prints the page and keeps no files.
    #[arg(long)]
    discard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Part {
    /// How soon it serves, and what it holds, from an embedded registry.
    Embedded,
    /// The same from ZooKeeper and etcd, and what changes cost there.
    Zookeeper,
    Etcd,
    /// What fifty gateways ask of a ZooKeeper.
    Fleet,
    /// What probing and scrapes take.
    Steady,
}

impl Settings {
    fn shape(&self) -> Shape {
        let interval = RARELY;
        Shape {
            interval,
            apps: self.apps,
            hosts_per_app: self.hosts_per_app,
            endpoints_per_app: self.endpoints_per_app,
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// What was promised, and what came out.
pub struct Goals<'r> {
    record: &'r mut Record,
    missed: Vec<String>,
}

impl Goals<'_> {
    /// `most`: `None` for a figure that is only told.
    pub fn figure(&mut self, what: &str, value: f64, unit: &str, most: Option<f64>) {
        let is_missed = most.is_some_and(|most| value > most || value.is_nan());
        let (goal, verdict) = match most {
            Some(most) => (format!("≤ {most} {unit}"), if is_missed { "missed" } else { "kept" }),
            None => (String::new(), ""),
        };
        self.record.line("figure", json!({"what": what, "value": value, "unit": unit, "most": most}));
        self.record.say(&format!("| {what} | {value:.2} {unit} | {goal} | {verdict} |"));
        if is_missed {
            self.missed.push(format!("{what}: {value:.2} {unit}, not {goal}"));
        }
    }

    pub fn line(&mut self, kind: &str, value: serde_json::Value) {
        self.record.line(kind, value);
    }
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let line = json!({
        "apps": settings.apps, "hosts_per_app": settings.hosts_per_app, "endpoints_per_app": settings.endpoints_per_app,
        "seconds": settings.seconds, "rounds": settings.rounds, "changes_per_second": settings.changes_per_second,
        "parts": format!("{:?}", settings.parts),
    });
    let mut record = Record::start("scale", &line);
    let shape = settings.shape();
    record.say(&format!(
        "{} apps, {} hosts, {} endpoints.\n\n| what | measured | goal | |\n| --- | --- | --- | --- |",
        shape.apps,
        shape.hosts(),
        shape.endpoints()
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut goals = Goals { record: &mut record, missed: Vec::new() };
    let measured = parts(settings, &runtime, &mut goals);
    let missed = std::mem::take(&mut goals.missed);
    measured?;
    for goal in &missed {
        record.say(&format!("\nMissed: {goal}."));
    }
    if !settings.discard {
        record.finish()?;
    }
    Ok(())
}

fn parts(
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let endpoints = Endpoints::start()?;
    if settings.wants(Part::Embedded) {
        start::embedded(settings, runtime, &endpoints, goals)?;
    }
    for (part, kind) in [(Part::Zookeeper, Kind::ZooKeeper), (Part::Etcd, Kind::Etcd)] {
        if settings.wants(part) {
            let site = runtime.block_on(site::Site::fill(kind, settings.shape(), &endpoints))?;
            let gateway = start::remote(settings, &site, kind, goals);
            changes::measure(settings, runtime, (&site, kind, &endpoints), &gateway, goals)?;
        }
    }
    if settings.wants(Part::Fleet) {
        let site = runtime.block_on(site::Site::fill(Kind::ZooKeeper, settings.shape(), &endpoints))?;
        fleet::measure(settings, runtime, (site, &endpoints), goals)?;
    }
    if settings.wants(Part::Steady) {
        steady::measure(settings, runtime, &endpoints, goals)?;
    }
    Ok(())
}

/// Waits until the first, a middle and the last app answer.
fn await_serving(gateway: &Gateway, shape: Shape) {
    let mut asked = [0, shape.apps / 2, shape.apps - 1].into_iter().peekable();
    yields(PATIENCE, "every app answers", || {
        while let Some(app) = asked.peek() {
            let host = host(*app, shape.hosts_per_app - 1);
            if RawClient::connect(gateway.web()).get(&host, "/").status != 200 {
                return None;
            }
            asked.next();
        }
        Some(())
    });
}
