//! Gateways of one registry, while random faults strike it, apps change well and badly, and endpoints die.
//!
//! What happens is in `driver/chaos`; a short form of it runs with the tests.

use std::time::Duration;

use benches::chaos::{self, CONVERGENCE, Journal, Kind, Plan, Round};
use benches::clock::millis;
use benches::distribution::Distribution;
use benches::record::Record;
use serde_json::json;

/// Enough to see a pattern, few enough to read; the raw lines have all.
const SHOWN: usize = 20;
/// Longer than a session of the harness's servers.
const LONGEST_FAULT: Duration = Duration::from_secs(12);

#[derive(Debug, clap::Args)]
pub struct Settings {
    #[arg(long, value_enum, default_value_t = Servers::Zookeeper)]
    registry: Servers,
    /// How long it goes on.
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    gateways: usize,
    /// Of each gateway.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Of what happens, in which order. Default: another one every time; the page says which.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the page and keeps no files.
    #[arg(long)]
    discard: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Servers {
    Zookeeper,
    Etcd,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let seed = settings.seed.unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX)));
    println!("seed {seed}");
    let registry = match settings.registry {
        Servers::Zookeeper => Kind::ZooKeeper,
        Servers::Etcd => Kind::Etcd,
    };
    let plan = Plan {
        registry,
        gateways: settings.gateways,
        clients: settings.clients,
        time: Duration::from_secs(settings.seconds),
        longest_fault: LONGEST_FAULT,
        seed,
    };
    let line = json!({
        "registry": registry.name(), "seconds": settings.seconds, "gateways": plan.gateways, "clients": plan.clients,
        "longest_fault_seconds": LONGEST_FAULT.as_secs(), "seed": seed,
        "versions": {"registry": registry.name(), "seed": seed.to_string()},
    });
    let mut record = Record::start("chaos", &line);
    let journal = chaos::run(plan);
    tell(&mut record, &journal, registry);
    let wrong = journal.wrong();
    let verdict = if wrong.is_empty() { "passed".to_owned() } else { wrong.join("; ") };
    record.say(&format!("\n**Verdict: {verdict}.**"));
    record.line("verdict", json!({"wrong": wrong}));
    if !settings.discard {
        record.finish()?;
    }
    anyhow::ensure!(wrong.is_empty(), "{verdict}");
    Ok(())
}

fn tell(record: &mut Record, journal: &Journal, registry: Kind) {
    let (losses, excused) = (journal.losses(), journal.excused());
    let (done, late) = journal.changes_total();
    record.say(&format!(
        "An ensemble of three ({}). In {:.0} s {} requests were answered by the app that was asked for and {} were lost; {} more \
         died with a gateway that was killed ({} times). {} endpoints died. {} changes were written, {} of them \
         after a fault that they were tried in.\n",
        registry.name(),
        journal.elapsed().as_secs_f64(),
        journal.served_total(),
        losses.len(),
        excused.len(),
        journal.gateway_deaths_total(),
        journal.deaths_total(),
        done + late,
        late,
    ));
    record.say(&format!(
        "Times that the registry did a write after its writer had given up, and after all was written anew: {}.\n",
        journal.late_writes_total()
    ));
    record.say(
        "Seconds that a fault lasted, that the registry took after it until it had all that was to be, and milliseconds \
         that the last gateway took from then on:\n",
    );
    record
        .say("| fault | times | lasted, median s | max s | registry, max s | gateways, median ms | max ms |");
    record.say("| --- | --- | --- | --- | --- | --- | --- |");
    for (fault, rounds) in journal.by_fault() {
        row(record, fault, &rounds);
    }
    for round in journal.rounds() {
        record.line("round", as_json(&round));
    }
    for lost in losses.iter().chain(&excused) {
        let is_lost = losses.iter().any(|one| std::ptr::eq(one, lost));
        record.line(
            "lost",
            json!({
                "second": lost.at.as_secs_f64(), "since": lost.since.as_secs_f64(), "gateway": lost.gateway,
                "what": lost.what, "excused": !is_lost,
            }),
        );
    }
    for lost in losses.iter().take(SHOWN) {
        record.say(&format!(
            "- lost at {:.1} s, gateway {}: {}",
            lost.at.as_secs_f64(),
            lost.gateway,
            lost.what
        ));
    }
    let within = millis(CONVERGENCE);
    record.say(&format!("\nGoals: 0 lost; {within:.0} ms for the gateways."));
}

fn row(record: &mut Record, fault: &str, rounds: &[Round]) {
    let seconds = |of: fn(&Round) -> Duration| -> Distribution {
        rounds.iter().map(|round| of(round).as_secs_f64()).collect()
    };
    let (lasted, reconciled) = (seconds(|round| round.lasted), seconds(|round| round.reconciled_after));
    let converged: Distribution =
        rounds.iter().filter_map(|round| round.converged_after.map(millis)).collect();
    let late = rounds.iter().filter(|round| round.converged_after.is_none()).count();
    let late = if late == 0 { String::new() } else { format!(" and {late} too late") };
    record.say(&format!(
        "| {fault} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0}{late} |",
        rounds.len(),
        lasted.median(),
        lasted.max(),
        reconciled.max(),
        converged.median(),
        converged.max(),
    ));
}

fn as_json(round: &Round) -> serde_json::Value {
    json!({
        "number": round.number, "fault": round.fault, "second": round.began.as_secs_f64(),
        "lasted_seconds": round.lasted.as_secs_f64(), "gateway_killed": round.gateway_killed,
        "reconciled_ms": millis(round.reconciled_after), "converged_ms": round.converged_after.map(millis),
        "difference": round.difference,
    })
}
