//! A gateway for a long time at saturation, while everything happens to it that happens to gateways.
//!
//! Clients of ten kinds ask again as soon as they have an answer, and look at every byte. Meanwhile app files change
//! and break, endpoints die and return, certificates are replaced, SIGHUP comes, one process hands over to the next,
//! and attackers do what attackers do. Afterwards every failure has to be one that the gateway makes on purpose,
//! and no process may hold more the longer it serves.

mod disturb;
mod endpoint;
mod load;
mod page;
mod pattern;
mod site;
mod streams;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use benches::record::Record;
use benches::soak::journal::Journal;
use benches::soak::trend::Sample;
use fastrand::Rng;
use rustix::process::{Signal, getpid, set_child_subreaper};
use serde_json::json;
use tests::{Config, DEADLINE, Gateway, comes_true};

use disturb::{Plan, Trouble};
use load::Load;
use site::Site;
use watch::Generations;

/// Files that a process without clients may have more than one that never had any: probes under way.
const LEFT_FILES: usize = 16;

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// How long it goes on.
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    /// Of what happens, in which order. Default: another one every time; the page says which.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the page and keeps no files.
    #[arg(long)]
    discard: bool,
}

/// What is left when the load is over.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    pub pss_kib: u64,
    pub files: usize,
}

/// All that a soak has seen.
pub struct Seen {
    pub plan: Plan,
    pub journal: Arc<Journal>,
    pub generations: Generations,
    pub samples: Vec<Sample>,
    /// Of the first process before its first client, and of the last one after its last client.
    pub fresh: Rest,
    pub left: Rest,
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let seed = settings.seed.unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX)));
    println!("seed {seed}");
    let line = json!({"seconds": settings.seconds, "seed": seed, "versions": {"seed": seed.to_string()}});
    let mut record = Record::start("soak", &line);
    // What `sluice upgrade` starts becomes our child when that ends.
    set_child_subreaper(Some(getpid()))?;
    let seen = soak(Plan::of(Duration::from_secs(settings.seconds)), &mut Rng::with_seed(seed))?;
    let verdict = page::tell(&mut record, &seen);
    if !settings.discard {
        record.finish()?;
    }
    verdict
}

fn soak(plan: Plan, rng: &mut Rng) -> anyhow::Result<Seen> {
    let site = Arc::new(Site::new()?);
    let (gateway, config) = site.start();
    let fresh = rest(gateway.pid());
    let addresses = site.addresses(&gateway);
    let journal = Arc::new(Journal::begin());
    let load = Arc::new(Load::new(
        addresses.clone(),
        Arc::clone(&journal),
        plan.longest_tunnel(),
        site.known.clone(),
    ));
    let trouble = Arc::new(Trouble::new(site, addresses, Arc::clone(&journal), Arc::clone(&load)));
    let generations = Arc::new(Generations::default());
    generations.begin(gateway.pid(), journal.elapsed());
    let over = Arc::new(AtomicBool::new(false));
    let watching = {
        let (journal, generations, over) = (journal.clone(), generations.clone(), over.clone());
        thread::spawn(move || watch::watch(&journal, &generations, &over))
    };
    let clients = load.start(rng)?;
    let attackers = disturb::attack(&trouble, rng)?;
    let mut gateway = disturb(&trouble, rng, plan, (gateway, &config), &generations)?;
    load.stop();
    join(clients)?;
    join(attackers)?;
    generations.await_ends(&journal);
    over.store(true, Ordering::Release);
    let samples = watching.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
    let left = come_to_rest(&journal, &gateway, &generations, fresh);
    finish(&journal, &mut gateway);
    drop(gateway);
    let generations = Arc::into_inner(generations).unwrap_or_default();
    Ok(Seen { plan, journal, generations, samples, fresh, left })
}

/// Everything at once, until the time is over. Returns the gateway.
fn disturb(
    trouble: &Arc<Trouble>,
    rng: &mut Rng,
    plan: Plan,
    (gateway, config): (Gateway, &Config),
    generations: &Generations,
) -> anyhow::Result<Gateway> {
    let (mut files_rng, mut deaths_rng, mut processes_rng) = (rng.fork(), rng.fork(), rng.fork());
    thread::scope(|scope| {
        let files = scope.spawn(|| disturb::files(trouble, &mut files_rng));
        let deaths = scope.spawn(|| disturb::deaths(trouble, &mut deaths_rng));
        let processes = scope
            .spawn(|| disturb::processes(trouble, &mut processes_rng, plan, gateway, config, generations));
        while trouble.journal.elapsed() < plan.total && !processes.is_finished() {
            thread::sleep(Duration::from_millis(100));
        }
        trouble.end();
        let panicked = |_| anyhow::anyhow!("a disturbance panicked: the gateway did not do as it was told");
        files.join().map_err(panicked)?;
        deaths.join().map_err(panicked)?;
        processes.join().map_err(panicked)
    })
}

/// Waits until nothing is open or under way any more, and says what the process holds then.
fn come_to_rest(journal: &Journal, gateway: &Gateway, generations: &Generations, fresh: Rest) -> Rest {
    const NOTHING: [&str; 4] =
        ["sluice_connections_open", "sluice_in_flight", "sluice_tunnels_open", "sluice_buffer_bytes"];
    for what in NOTHING {
        let is_nothing = || gateway.metrics().count(what, &[]) == 0;
        if !comes_true(DEADLINE * 2, is_nothing) {
            journal.broken(format!("{what} is {} without a client", gateway.metrics().count(what, &[])));
        }
    }
    let most = fresh.files + LEFT_FILES;
    if !comes_true(DEADLINE * 2, || rest(gateway.pid()).files <= most) {
        let files = rest(gateway.pid()).files;
        journal.broken(format!(
            "{files} files are open without a client, {} were before the first",
            fresh.files
        ));
    }
    generations.note_reasons(&gateway.metrics());
    rest(gateway.pid())
}

fn rest(pid: u32) -> Rest {
    Rest { pss_kib: benches::usage::pss_kib(pid), files: watch::open_files(pid) }
}

fn finish(journal: &Journal, gateway: &mut Gateway) {
    gateway.signal(Signal::TERM);
    let status = gateway.wait(DEADLINE * 2);
    if status.code() != Some(0) {
        journal.broken(format!("the last process ended with {status}"));
    }
    let output = gateway.output();
    // What a broken file is refused with is wanted.
    let is_wanted = |line: &str| line.contains("changes nothing");
    let errors = output.lines().filter(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    let errors = errors.filter(|line| !is_wanted(line));
    errors.take(10).for_each(|line| journal.broken(format!("logged: {line}")));
}

fn join(threads: Vec<JoinHandle<()>>) -> anyhow::Result<()> {
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
