//! A ZooKeeper that is killed under load and comes back.

use std::thread;
use std::time::{Duration, Instant};

use benches::clock::{Moment, millis};
use benches::load::Plan;
use benches::record::Record;
use benches::witness::Witness;
use serde_json::{Value, json};
use tests::{Config, DEADLINE, Endpoint, Gateway, yields};

use crate::fleet::{Fleet, HOST, node};
use crate::stretches::{self, Stretch};

const CONNECTIONS: u32 = 32;
const RATE: u32 = 2_000;
/// Before and after, on the same connections.
const UNDISTURBED: Duration = Duration::from_secs(10);
/// The gateway's and kazoo's own backoff after an outage.
const RECOVERY: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// How long ZooKeeper is gone.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let settings_line =
        json!({"seconds": settings.seconds, "connections": CONNECTIONS, "requests_per_second": RATE});
    let mut record = Record::start("registry_outage", &settings_line);
    let (steady, late) = (Endpoint::start("steady"), Witness::start("late"));
    let mut fleet = start(&steady);
    let plan = Plan {
        address: fleet.gateway.web(),
        hosts: vec![HOST.to_owned()],
        connections: CONNECTIONS,
        rate: RATE,
    };
    let load = plan.start();
    thread::sleep(UNDISTURBED);
    let killed = load.elapsed();
    let noticed = outage(&mut fleet, Duration::from_secs(settings.seconds));
    let restarted = load.elapsed();
    let recovered = recover(&mut fleet, &late);
    thread::sleep(UNDISTURBED);
    let end = load.elapsed();
    let report = load.stop();
    drop(fleet);
    let verdict = stretches::tell(
        &mut record,
        &report,
        &[
            Stretch { name: "before", time: Duration::ZERO..killed },
            Stretch { name: "ZooKeeper gone", time: killed..restarted },
            Stretch { name: "after", time: restarted..end },
        ],
    );
    say(&mut record, noticed, &recovered);
    record.finish()?;
    verdict.check()
}

fn start(steady: &Endpoint) -> Fleet {
    let mut fleet = Fleet::start(Config::new());
    let address = steady.address().to_string();
    fleet.kazoo.create(&node("shop", "steady"), address.as_bytes(), false).expect("ZooKeeper takes it");
    yields(DEADLINE, "the app answers", || (fleet.gateway.get(HOST, "/").status == 200).then_some(()));
    fleet
}

/// Kills the server and brings it back. Returns how long the metric took to say so.
fn outage(fleet: &mut Fleet, lasts: Duration) -> Duration {
    fleet.server.kill();
    let killed = Instant::now();
    yields(DEADLINE, "the metric says disconnected", || (!is_connected(&fleet.gateway)).then_some(()));
    let noticed = killed.elapsed();
    thread::sleep(lasts.saturating_sub(killed.elapsed()));
    fleet.server.restart();
    noticed
}

/// What the gateway and a writer need after the server answers again.
struct Recovered {
    connected: Duration,
    /// From the first write's acknowledgement to the request that shows it.
    written_ms: f64,
}

fn recover(fleet: &mut Fleet, late: &Witness) -> Recovered {
    let restarted = Instant::now();
    yields(RECOVERY, "the metric says connected", || is_connected(&fleet.gateway).then_some(()));
    let connected = restarted.elapsed();
    let address = late.address().to_string();
    let mut attempts = 0;
    let acknowledged = yields(RECOVERY, "kazoo writes again", || {
        // An attempt without an answer may have happened, so each has a node of its own.
        attempts += 1;
        fleet.kazoo.create(&node("shop", &format!("late{attempts}")), address.as_bytes(), false).ok()
    });
    let first = yields(RECOVERY, "the new endpoint is asked", || late.asked().first);
    Recovered { connected, written_ms: first.millis_since(Moment::from_seconds(acknowledged)) }
}

fn is_connected(gateway: &Gateway) -> bool {
    gateway.metrics().sum("sluice_registry_connected", &[]) == Some(1.0)
}

fn say(record: &mut Record, noticed: Duration, recovered: &Recovered) {
    let values: Value = json!({
        "disconnected_seen_ms": millis(noticed),
        "connected_seen_ms": millis(recovered.connected),
        "first_write_seen_ms": recovered.written_ms,
    });
    record.line("recovery", values);
    record.say(&format!(
        "\nThe metric said disconnected {:.0} ms after the kill, and connected {:.0} ms after ZooKeeper answered \
         again. The first write after that reached a request {:.1} ms after its acknowledgement.",
        millis(noticed),
        millis(recovered.connected),
        recovered.written_ms,
    ));
}
