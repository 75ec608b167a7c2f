//! From a change's acknowledgement to what clients see of it.
//!
//! An endpoint comes and goes again and again, while requests for its app never stop. It comes at the
//! first request that it receives after the writer's acknowledgement, and goes at the last one.

use std::time::Duration;

use benches::clock::{Moment, millis};
use benches::distribution::Distribution;
use benches::load::Plan;
use benches::record::Record;
use benches::witness::Witness;
use serde_json::json;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, yields};

use crate::fleet::{Fleet, HOST, node};

/// One request in half a millisecond, every other one to the new endpoint: what a figure cannot be finer
/// than. Far below what the machine can carry, so that a change does not wait for a processor.
const RATE: u32 = 2_000;
const CONNECTIONS: u32 = 4;
/// An endpoint that got no request for this long, where every other one should have been its, gets no more.
const GONE: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Endpoints that come and go.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
}

/// Where changes are written.
trait Source {
    const NAME: &'static str;

    fn start(steady: &Endpoint) -> Self;

    fn gateway(&self) -> &Gateway;

    /// Returns when the writer had its acknowledgement.
    fn add(&mut self, instance: &str, witness: &Witness) -> anyhow::Result<Moment>;

    fn remove(&mut self, instance: &str) -> anyhow::Result<Moment>;
}

/// A plain `ip:port` node, written by a client that is not ours.
struct ZooKeeper(Fleet);

impl Source for ZooKeeper {
    const NAME: &'static str = "zookeeper";

    fn start(steady: &Endpoint) -> Self {
        let mut fleet = Fleet::start(Config::new());
        let address = steady.address().to_string();
        fleet.kazoo.create(&node("shop", "steady"), address.as_bytes(), false).expect("ZooKeeper takes it");
        Self(fleet)
    }

    fn gateway(&self) -> &Gateway {
        &self.0.gateway
    }

    fn add(&mut self, instance: &str, witness: &Witness) -> anyhow::Result<Moment> {
        let address = witness.address().to_string();
        let created = self.0.kazoo.create(&node("shop", instance), address.as_bytes(), false);
        created.map(Moment::from_seconds).map_err(|error| anyhow::anyhow!(error.0))
    }

    fn remove(&mut self, instance: &str) -> anyhow::Result<Moment> {
        let deleted = self.0.kazoo.delete(&node("shop", instance));
        deleted.map(Moment::from_seconds).map_err(|error| anyhow::anyhow!(error.0))
    }
}

/// The app's file, saved by rename; that is the acknowledgement.
struct Files {
    gateway: Gateway,
    app: App,
}

impl Source for Files {
    const NAME: &'static str = "files";

    fn start(steady: &Endpoint) -> Self {
        let app = App::new("shop").host(HOST).endpoint("v1", "steady", steady.address());
        Self { gateway: Gateway::start(&Config::new().app(&app)), app }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn add(&mut self, instance: &str, witness: &Witness) -> anyhow::Result<Moment> {
        self.gateway.put_app(&self.app.clone().endpoint("v1", instance, witness.address()));
        Ok(Moment::now())
    }

    fn remove(&mut self, _: &str) -> anyhow::Result<Moment> {
        self.gateway.put_app(&self.app);
        Ok(Moment::now())
    }
}

/// Milliseconds after the acknowledgement; negative when the gateway was faster than the writer.
struct Round {
    comes: f64,
    goes: f64,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let load = json!({"connections": CONNECTIONS, "requests_per_second": RATE});
    let settings_line = json!({"rounds": settings.rounds, "load": load, "gone_after_ms": GONE.as_millis()});
    let mut record = Record::start("change_latency", &settings_line);
    record.say("Milliseconds from the acknowledgement of the change.\n");
    record.say("| source | endpoint | rounds | median | p90 | p99 | max |");
    record.say("| --- | --- | --- | --- | --- | --- | --- |");
    measure::<ZooKeeper>(settings, &mut record)?;
    measure::<Files>(settings, &mut record)?;
    record.finish()
}

fn measure<S: Source>(settings: &Settings, record: &mut Record) -> anyhow::Result<()> {
    let (steady, witness) = (Endpoint::start("steady"), Witness::start("witness"));
    let mut source = S::start(&steady);
    let gateway = source.gateway();
    yields(DEADLINE, "the app answers", || (gateway.get(HOST, "/").status == 200).then_some(()));
    let plan =
        Plan { address: gateway.web(), hosts: vec![HOST.to_owned()], connections: CONNECTIONS, rate: RATE };
    let load = plan.start();
    let mut rounds = Vec::new();
    for number in 0..settings.rounds {
        let round = round(&mut source, &witness, &format!("c{number}"))?;
        let values = json!({
            "source": S::NAME, "round": number, "comes_ms": round.comes, "goes_ms": round.goes,
        });
        record.line("round", values);
        rounds.push(round);
    }
    let seen = load.stop().whole();
    record.line("load", json!({"source": S::NAME, "seen": seen.to_json()}));
    tell::<S>(record, &rounds);
    anyhow::ensure!(seen.failures.is_empty() && seen.closed == 0, "requests failed: {:?}", seen.failures);
    Ok(())
}

fn round<S: Source>(source: &mut S, witness: &Witness, instance: &str) -> anyhow::Result<Round> {
    witness.forget();
    let added = source.add(instance, witness)?;
    let first = yields(DEADLINE, "the new endpoint is asked", || witness.asked().first);
    let removed = source.remove(instance)?;
    let last = yields(DEADLINE, "the deleted endpoint is left alone", || {
        witness.asked().last.filter(|last| Moment::now().millis_since(*last) >= millis(GONE))
    });
    Ok(Round { comes: first.millis_since(added), goes: last.millis_since(removed) })
}

fn tell<S: Source>(record: &mut Record, rounds: &[Round]) {
    let comes: Distribution = rounds.iter().map(|round| round.comes).collect();
    let goes: Distribution = rounds.iter().map(|round| round.goes).collect();
    for (what, values) in [("created: first request", comes), ("deleted: last request", goes)] {
        record.line("summary", json!({"source": S::NAME, "what": what, "ms": values.to_json()}));
        record.say(&format!("| {} | {what} | {} | {} |", S::NAME, values.len(), values.cells()));
    }
}
