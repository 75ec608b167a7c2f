//! What a request costs, beside nginx, HAProxy and a minimal pingora-proxy on the same machine.
//!
//! The figure is the CPU time of a proxy's whole process tree per request. The proxy has one worker and a core
//! to itself; the endpoint, the load generators and we share another one. All peers run all the time and have
//! their turns under load one after another, round by round.

mod generators;
mod handshakes;
mod page;
mod peers;
mod process;
mod site;
mod tools;
mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use benches::cores;
use benches::record::Record;
use benches::rounds::{Turn, Turns, order};
use benches::usage::{self, Cpu};
use serde_json::json;

use page::Page;
use peers::{Contender, Kind, Peer};
use site::Site;
use workload::{ACCESS_LOG, WORKLOADS, Workload};

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// In each, every peer has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of load in every turn.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Who is compared. Ratios are to the first one.
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,pingora,sluice")]
    peers: Vec<Kind>,
    /// By name; all where none is named.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// One more build of sluice, such as pgo=target/pgo/sluice; may be repeated.
    #[arg(long, value_name = "NAME=BINARY", value_parser = named_build)]
    also: Vec<Contender>,
    /// Prints the page and keeps no files: for a trial, or to train a build.
    #[arg(long)]
    discard: bool,
}

/// Everybody who runs, and the order of their columns.
struct Field {
    contenders: Vec<Contender>,
    peers: Vec<Peer>,
}

/// One row of turns: who runs, and under which name it is told.
struct Entry<'a> {
    name: String,
    peer: &'a Peer,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let workloads = chosen(&settings.workloads)?;
    let contenders = contenders(settings)?;
    tools::require(&peers::programs(&contenders))?;
    peers::build(&contenders)?;
    let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let mut versions = peers::versions(&contenders);
    versions.extend(tools::versions());
    let described = json!({
        "rounds": settings.rounds, "seconds": settings.seconds, "peers": names, "versions": versions,
    });
    // It counts the cores that are ours, of which we keep one.
    let record = Record::start("compare", &described);
    cores::prepare()?;
    let site = Site::start()?;
    let field = Field::start(contenders, &site)?;
    let mut page = Page::open(record, &field.contenders, settings.rounds, settings.seconds);
    for workload in workloads {
        let turns = field.measure(&site, workload, settings, &mut page)?;
        page.tell(workload, &turns);
    }
    drop(field);
    site.stop();
    page.finish(settings.discard)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Workload>> {
    match names {
        [] => Ok(WORKLOADS.iter().collect()),
        names => names.iter().map(|name| Workload::named(name)).collect(),
    }
}

fn contenders(settings: &Settings) -> anyhow::Result<Vec<Contender>> {
    let usual = settings.peers.iter().map(|kind| Contender::new(*kind));
    let all: Vec<_> = usual.chain(settings.also.iter().cloned()).collect();
    anyhow::ensure!(
        !all.is_empty() && settings.rounds > 0 && settings.seconds > 0,
        "nothing would be measured"
    );
    for (place, contender) in all.iter().enumerate() {
        let is_twice = all[..place].iter().any(|other| other.name == contender.name);
        anyhow::ensure!(!is_twice, "two peers are called {}", contender.name);
    }
    Ok(all)
}

fn named_build(text: &str) -> Result<Contender, String> {
    let (name, binary) = text.split_once('=').ok_or("expected NAME=BINARY")?;
    let binary = PathBuf::from(binary);
    // Peers run in folders of their own. Cargo starts benches in the folder of their crate.
    let given = std::env::var_os("PWD").map(PathBuf::from).unwrap_or_default();
    let found = [given.join(&binary), binary].into_iter().find_map(|path| path.canonicalize().ok());
    Ok(Contender::build(name, found.ok_or_else(|| format!("there is no file {text}"))?))
}

impl Field {
    fn start(contenders: Vec<Contender>, site: &Site) -> anyhow::Result<Self> {
        let peers = contenders.iter().map(|contender| contender.start(site, None));
        let peers = peers.collect::<anyhow::Result<_>>()?;
        Ok(Self { contenders, peers })
    }

    fn measure(
        &self,
        site: &Site,
        workload: &Workload,
        settings: &Settings,
        page: &mut Page,
    ) -> anyhow::Result<Turns> {
        if workload.name == ACCESS_LOG {
            return self.measure_access_log(site, workload, settings, page);
        }
        let entries = self
            .contenders
            .iter()
            .zip(&self.peers)
            .map(|(contender, peer)| Entry { name: contender.name.clone(), peer });
        Ok(rounds(&entries.collect::<Vec<_>>(), workload, settings, page))
    }

    /// On fresh pairs: a proxy that has worked for minutes differs from one that was just started.
    fn measure_access_log(
        &self,
        site: &Site,
        workload: &Workload,
        settings: &Settings,
        page: &mut Page,
    ) -> anyhow::Result<Turns> {
        let mut fresh = Vec::new();
        for contender in &self.contenders {
            if let Some(why) = contender.lacks(workload) {
                page.left_out(contender, workload, why);
                continue;
            }
            for is_on in [false, true] {
                fresh.push((page::log_name(&contender.name, is_on), contender.start(site, Some(is_on))?));
            }
        }
        let entries: Vec<_> = fresh.iter().map(|(name, peer)| Entry { name: name.clone(), peer }).collect();
        Ok(rounds(&entries, workload, settings, page))
    }
}

fn rounds(entries: &[Entry<'_>], workload: &Workload, settings: &Settings, page: &mut Page) -> Turns {
    let mut turns = Turns::default();
    let time = Duration::from_secs(settings.seconds);
    for round in 0..settings.rounds {
        for entry in order(entries.len(), round).map(|place| &entries[place]) {
            match turn(entry, workload, round, time) {
                Ok(turn) => {
                    page.line(workload, &turn);
                    turns.push(turn);
                }
                Err(error) => page.failed(&entry.name, workload, &error),
            }
        }
    }
    turns
}

fn turn(entry: &Entry<'_>, workload: &Workload, round: usize, time: Duration) -> anyhow::Result<Turn> {
    let clocks = || (Instant::now(), usage::busy(cores::PROXY), Cpu::of_tree(entry.peer.pid()));
    let before = clocks();
    let outcome = workload.run(&entry.peer.ports, time)?;
    let after = clocks();
    let (passed, busy, cpu) = (after.0 - before.0, after.1.saturating_sub(before.1), after.2 - before.2);
    Ok(Turn {
        round,
        peer: entry.name.clone(),
        outcome,
        seconds: passed.as_secs_f64(),
        cpu_seconds: cpu.total.as_secs_f64(),
        user_seconds: cpu.user.as_secs_f64(),
        system_seconds: cpu.system.as_secs_f64(),
        disturbance: busy.saturating_sub(cpu.total).as_secs_f64() / passed.as_secs_f64(),
        pss_kib: usage::pss_kib(entry.peer.pid()),
    })
}
