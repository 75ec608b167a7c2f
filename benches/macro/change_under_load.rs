//! Changes that never end, in the registry and in files, while keepalive connections ask on.
//!
//! The apps under load change themselves: endpoints come, change their weight and go, hosts are added.
//! Apps beside them come and go. An undisturbed stretch before and after says what the requests cost
//! without changes, on the same connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use benches::load::{Load, Plan};
use benches::record::Record;
use serde_json::json;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Kazoo, yields};

use crate::fleet::{Fleet, HOST, insist, node};
use crate::stretches::{self, Stretch};

const CONNECTIONS: u32 = 32;
/// Well below what two cores carry that also run the clients, the endpoints and ZooKeeper: a wait that the
/// changes cause shows, and one for a processor is rare.
const RATE: u32 = 2_000;
/// After each change, in each source: together about 90 changes a second. Without a pause the writers would
/// take the processors, and the figure would be theirs.
const PAUSE: Duration = Duration::from_millis(20);
const FILED_HOST: &str = "filed.test";

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// How long the changes go on.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How long nothing changes, before and after.
    #[arg(long, default_value_t = 30)]
    undisturbed: u64,
}

/// The endpoints of the two apps under load.
struct Endpoints {
    steady: Endpoint,
    spare: Endpoint,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let plan_line = json!({
        "seconds": settings.seconds, "undisturbed": settings.undisturbed, "connections": CONNECTIONS,
        "requests_per_second": RATE, "pause_ms": PAUSE.as_millis(),
    });
    let mut record = Record::start("change_under_load", &plan_line);
    let endpoints = Endpoints { steady: Endpoint::start("steady"), spare: Endpoint::start("spare") };
    let mut fleet = start(&endpoints)?;
    let plan = Plan {
        address: fleet.gateway.web(),
        hosts: vec![HOST.to_owned(), FILED_HOST.to_owned()],
        connections: CONNECTIONS,
        rate: RATE,
    };
    let before = tables(&fleet.gateway);
    let load = plan.start();
    let quiet = Duration::from_secs(settings.undisturbed);
    thread::sleep(quiet);
    let began = load.elapsed();
    let changes = change(&mut fleet, &endpoints, &load, began + Duration::from_secs(settings.seconds))?;
    let ended = load.elapsed();
    thread::sleep(quiet);
    let end = load.elapsed();
    let report = load.stop();
    let applied = tables(&fleet.gateway) - before;
    let spare = endpoints.spare.requests();
    drop(fleet);
    let verdict = stretches::tell(
        &mut record,
        &report,
        &[
            Stretch { name: "before", time: Duration::ZERO..began },
            Stretch { name: "changes", time: began..ended },
            Stretch { name: "after", time: ended..end },
        ],
    );
    record.line("changes", json!({"written": changes, "tables": applied, "spare_requests": spare}));
    record.say(&format!(
        "\n{changes} changes written, {applied} tables put in force; the endpoint that comes and goes got {spare} requests."
    ));
    record.finish()?;
    verdict.check()
}

/// One app of each source, both answering.
fn start(endpoints: &Endpoints) -> anyhow::Result<Fleet> {
    let mut fleet = Fleet::start(Config::new().app(&filed(endpoints)));
    insist(|| fleet.kazoo.create("/caas/app/shop", spec(0).as_bytes(), false))?;
    let address = endpoints.steady.address().to_string();
    insist(|| fleet.kazoo.create(&node("shop", "steady"), address.as_bytes(), false))?;
    let gateway = &fleet.gateway;
    yields(DEADLINE, "both apps answer", || {
        [HOST, FILED_HOST].iter().all(|host| gateway.get(host, "/").status == 200).then_some(())
    });
    Ok(fleet)
}

fn tables(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_table_changes_total", &[])
}

/// Both sources at once, until the load has run for `end`. Returns how many changes were written.
fn change(fleet: &mut Fleet, endpoints: &Endpoints, load: &Load, end: Duration) -> anyhow::Result<u64> {
    let over = AtomicBool::new(false);
    let (gateway, kazoo) = (&fleet.gateway, &mut fleet.kazoo);
    thread::scope(|scope| {
        let files = scope.spawn(|| change_files(gateway, endpoints, &over));
        let registry = scope.spawn(|| change_registry(kazoo, endpoints, &over));
        thread::sleep(end.saturating_sub(load.elapsed()));
        over.store(true, Ordering::Release);
        let files = files.join().expect("a writer does not panic");
        Ok(files + registry.join().expect("a writer does not panic")?)
    })
}

fn change_registry(kazoo: &mut Kazoo, endpoints: &Endpoints, over: &AtomicBool) -> anyhow::Result<u64> {
    let spare = endpoints.spare.address().to_string();
    let weighted = format!(r#"{{"address": "{spare}", "weight": 3}}"#);
    let (shop, mut changes) = (node("shop", "spare"), 0);
    for round in 1.. {
        let tenant = node(&format!("tenant{round}"), "c1");
        for step in 0..6 {
            insist(|| match step {
                0 => kazoo.create(&shop, spare.as_bytes(), false),
                1 => kazoo.set("/caas/app/shop", spec(round).as_bytes()),
                2 => kazoo.set(&shop, weighted.as_bytes()),
                3 => kazoo.create(&tenant, spare.as_bytes(), false),
                4 => kazoo.delete(&shop),
                _ => kazoo.delete(&tenant),
            })?;
            changes += 1;
            thread::sleep(PAUSE);
        }
        if over.load(Ordering::Acquire) {
            break;
        }
    }
    Ok(changes)
}

fn change_files(gateway: &Gateway, endpoints: &Endpoints, over: &AtomicBool) -> u64 {
    let (steady, spare) = (endpoints.steady.address(), endpoints.spare.address());
    let mut changes = 0;
    for round in 1.. {
        let id = format!("file{round}");
        for step in 0..4 {
            match step {
                0 => gateway.put_app(&filed(endpoints).endpoint("v1", "spare", spare)),
                1 => gateway.put_app(&App::new(&id).host(&format!("{id}.test")).endpoint("v1", "c1", steady)),
                2 => gateway.put_app(&filed(endpoints).host(&format!("h{round}.{FILED_HOST}"))),
                _ => gateway.remove_app(&id),
            }
            changes += 1;
            thread::sleep(PAUSE);
        }
        if over.load(Ordering::Acquire) {
            break;
        }
    }
    changes
}

fn filed(endpoints: &Endpoints) -> App {
    App::new("filed").host(FILED_HOST).endpoint("v1", "steady", endpoints.steady.address())
}

fn spec(round: u64) -> String {
    format!(r#"{{"hosts": ["{HOST}", "h{round}.test"]}}"#)
}
