//! From nothing to serving, and what is held then.

use std::thread;
use std::time::{Duration, Instant};

use benches::usage;
use serde_json::json;
use tests::Gateway;
use tokio::runtime::Runtime;

use super::endpoint::Endpoints;
use super::site::{Kind, Shape, Site};
use super::{Goals, Settings, await_serving};

/// Most endpoints have been probed, and what only a start needed is given back.
const SETTLED: Duration = Duration::from_secs(10);

/// Seconds until every app is served.
const EMBEDDED_GOAL: f64 = 3.0;
const REMOTE_GOAL: f64 = 10.0;
/// KiB.
const ENDPOINT_GOAL: f64 = 1.5;
const HOST_GOAL: f64 = 0.5;

pub fn embedded(
    settings: &Settings,
    runtime: &Runtime,
    endpoints: &Endpoints,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let full = settings.shape();
    // As many apps, with next to nothing else: what endpoints and hosts hold is the difference.
    let shapes = [
        ("all", full),
        ("without endpoints", Shape { endpoints_per_app: 0, ..full }),
        ("with a host an app", Shape { hosts_per_app: 1, ..full }),
    ];
    let mut held = Vec::new();
    for (name, shape) in shapes {
        let site = runtime.block_on(Site::fill(Kind::Embedded, shape, endpoints))?;
        let began = Instant::now();
        let gateway = Gateway::start(&site.config());
        if shape.endpoints() > 0 {
            await_serving(&gateway, shape);
        }
        let took = began.elapsed();
        if name == "all" {
            goals.figure(
                "embedded: from the start to serving every app",
                took.as_secs_f64(),
                "s",
                Some(EMBEDDED_GOAL),
            );
        }
        thread::sleep(SETTLED);
        let kib = usage::pss_kib(gateway.pid());
        goals.line("held", json!({"shape": name, "pss_kib": kib, "seconds": took.as_secs_f64()}));
        held.push(kib as f64);
    }
    let [all, without_endpoints, few_hosts] = held[..] else { unreachable!("three were measured") };
    let per_endpoint = (all - without_endpoints) / f64::from(full.endpoints());
    let per_host = (all - few_hosts) / f64::from(full.hosts() - full.apps);
    goals.figure("memory of all", all / 1024.0, "MiB", None);
    goals.figure("memory per endpoint, probed", per_endpoint, "KiB", Some(ENDPOINT_GOAL));
    goals.figure("memory per host", per_host, "KiB", Some(HOST_GOAL));
    Ok(())
}

pub fn remote(settings: &Settings, site: &Site, kind: Kind, goals: &mut Goals<'_>) -> Gateway {
    let began = Instant::now();
    let gateway = Gateway::start(&site.config());
    await_serving(&gateway, settings.shape());
    let took = began.elapsed().as_secs_f64();
    goals.figure(
        &format!("{}: from the start to serving every app", kind.name()),
        took,
        "s",
        Some(REMOTE_GOAL),
    );
    thread::sleep(SETTLED);
    let kib = usage::pss_kib(gateway.pid());
    goals.figure(&format!("{}: memory of all", kind.name()), kib as f64 / 1024.0, "MiB", None);
    gateway
}
