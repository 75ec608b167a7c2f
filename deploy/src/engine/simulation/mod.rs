//! The whole engine in virtual time, killed at random points, with hosts that hang, answers that are lost and operators who
//! change their minds. In the end nothing may be left that nobody wants, and nothing may ever have happened that must not.
//! The seed of a failure is printed; `SLUICE_SEED` repeats it.

pub(super) mod fleet;
pub(super) mod registry;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discovery::registry::State;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use topology::HostId;

use super::world::World;
use super::*;
use crate::model::{Phase, Record, Rollout};
use crate::rollout::command::Command;
use fleet::Fleet;
use registry::Store;

pub(super) const FOREIGN: &str = "service/address/shop/v9/foreign";

pub(super) struct Stage {
    pub store: Arc<Store>,
    pub fleet: Fleet,
    pub rng: fastrand::Rng,
    /// One in so many passes of a fault point ends the engine; 0: none does.
    pub odds: Arc<AtomicU64>,
    pub kills: u64,
    pub keys: Option<Arc<Keys>>,
    /// Of every instance that is wanted next.
    pub memory: &'static str,
    died: Arc<Notify>,
    began: tokio::time::Instant,
    engines: Vec<JoinHandle<()>>,
    gateways: JoinHandle<()>,
}

impl Stage {
    pub(super) fn new(seed: u64, hosts: usize) -> Self {
        let (store, fleet) = (Store::new(seed), Fleet::new(seed ^ 1, 2));
        let looked_at = fleet.clone();
        store.look_at(move |key| {
            let name = key.as_str().rsplit('/').next().unwrap_or_default();
            looked_at.registered(name);
        });
        for at in 0..hosts {
            let value = format!(
                r#"{{"address": "10.0.0.{at}", "memory": "8GiB", "cpu": 8, "ports": [25000, 25019]}}"#
            );
            store.put(&format!("host/h{at}"), &value);
        }
        store.put(FOREIGN, "10.9.9.9:80");
        let gateways = tokio::spawn(gateways(Arc::clone(&store), fleet.clone(), seed));
        Self {
            store,
            fleet,
            rng: fastrand::Rng::with_seed(seed),
            odds: Arc::default(),
            kills: 0,
            keys: None,
            memory: "256MiB",
            died: Arc::default(),
            began: tokio::time::Instant::now(),
            engines: Vec::new(),
            gateways,
        }
    }

    pub(super) fn engine(&mut self) -> Engine {
        let (odds, died) = (Arc::clone(&self.odds), Arc::clone(&self.died));
        let lot = Mutex::new(self.rng.fork());
        let faults = Faults::new(move |_| {
            let odds = odds.load(Ordering::Relaxed);
            let ends = odds > 0 && lot.lock().unwrap().u64(..odds) == 0;
            if ends {
                died.notify_one();
            }
            ends
        });
        let began = self.began;
        let tools = Tools {
            registry: self.store.open(),
            hosts: Arc::new(self.fleet.clone()),
            gateways: Arc::new(self.fleet.clone()),
            prober: Arc::new(self.fleet.clone()),
            keys: self.keys.clone(),
            meter: Arc::default(),
            clock: Arc::new(move || 1_700_000_000_000 + began.elapsed().as_millis() as u64),
        };
        let settings = Settings {
            lost_after: Duration::from_secs(20),
            list_every: Duration::from_secs(1),
            call_timeout: Duration::from_secs(5),
            ..Settings::default()
        };
        Engine::with(tools, settings, faults, self.rng.fork())
    }

    pub(super) fn start(&mut self, heeds_claims: bool) {
        let mut engine = self.engine();
        engine.heeds_claims = heeds_claims;
        self.engines.push(tokio::spawn(engine.run()));
    }

    /// Lets time pass; an engine that dies is followed by another one.
    pub(super) async fn pass(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        loop {
            let died = Arc::clone(&self.died);
            tokio::select! {
                () = tokio::time::sleep_until(end) => break,
                () = died.notified() => {
                    self.kills += 1;
                    let at = self.rng.usize(..self.engines.len());
                    let engine = self.engines.swap_remove(at);
                    engine.abort();
                    let _ = engine.await;
                    let alone = self.engines.is_empty();
                    self.start(alone);
                }
            }
        }
        for engine in &self.engines {
            assert!(!engine.is_finished(), "an engine has panicked");
        }
        self.check();
    }

    /// All engines die at once, and one comes.
    pub(super) async fn restart(&mut self) {
        for engine in std::mem::take(&mut self.engines) {
            engine.abort();
            let _ = engine.await;
        }
        self.start(true);
    }

    pub(super) async fn command(&mut self, app: &str, command: Command) -> Result<Rollout, OperatorError> {
        let operator = self.engine().operator();
        let asked = Asked::once(command.operation(), "a test");
        let done = operator.command(&AppId::parse(app).unwrap(), command, &asked).await;
        done.map(|(rollout, _)| rollout)
    }

    /// Until all is as wanted. What chance made fail is tried again, as an operator would.
    pub(super) async fn settle(&mut self) {
        for _ in 0..20 {
            for _ in 0..300 {
                if self.is_quiet() {
                    return;
                }
                self.pass(Duration::from_secs(1)).await;
            }
            for app in ["shop", "blog"] {
                let _ = self.command(app, Command::Retry).await;
            }
        }
        self.until("all is as wanted", Self::is_quiet).await;
    }

    pub(super) fn check(&self) {
        let truth = self.fleet.truth.lock().unwrap();
        assert!(truth.violations.is_empty(), "{:#?}", truth.violations);
        let state = self.store.state();
        assert_eq!(state.entries.get(FOREIGN).map(|entry| &entry.value[..]), Some(&b"10.9.9.9:80"[..]));
    }

    pub(super) fn deploy(
        &self,
        app: &str,
        version: &str,
        instances: u32,
        rollout: &str,
        running: bool,
        on: &str,
    ) {
        let memory = self.memory;
        let versions: Vec<String> = ["v1", "v2", "bad", "exits", "missing"]
            .iter()
            .map(|version| {
                format!(
                    r#""{version}": {{"command": ["{app}", "{version}"], "resources": {{"memory": "{memory}"}},
                    "start_timeout": "20s", "drain_timeout": "5s", "probe": {{"deadline": "15s"}},
                    "hooks": {{"start": ["a"], "stop": ["b"]}}}}"#
                )
            })
            .collect();
        let value = format!(
            r#"{{"versions": {{{}}}, "version": "{version}", "instances": {instances}, "running": {running},
                "rollout": {rollout}, "depends_on": [{on}], "restart": {{"max": 3, "window": "60s", "max_backoff": "10s"}}}}"#,
            versions.join(",")
        );
        self.store.put(&format!("deploy/{app}"), &value);
    }

    pub(super) fn rollout(&self, app: &str) -> Option<Rollout> {
        World::read(self.store.state()).apps.get(app)?.rollout.as_ref().map(|rollout| rollout.value.clone())
    }

    pub(super) fn serving(&self, app: &str, version: &str) -> usize {
        let world = World::read(self.store.state());
        let Some(view) = world.apps.get(app) else { return 0 };
        let serves = |record: &&world::Versioned<Record>| {
            record.value.phase == Phase::Serving && record.value.version.as_str() == version
        };
        view.records.values().filter(serves).count()
    }

    /// Until `done`, or for two hours.
    pub(super) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..7_200 {
            if done(self) {
                return;
            }
            self.pass(Duration::from_secs(1)).await;
        }
        let world = World::read(self.store.state());
        for (app, view) in &world.apps {
            eprintln!("{app}: {:?}\n{:?}\nclaim {:?}", view.rollout, view.records, view.claim);
        }
        panic!("never: {what}");
    }

    /// Everything that there is belongs to something that is wanted.
    pub(super) fn nothing_leaks(&self) {
        let state = self.store.state();
        let world = World::read(state.clone());
        let mut owners = BTreeSet::new();
        let mut addresses = BTreeSet::from([FOREIGN.to_owned()]);
        for (app, view) in &world.apps {
            for (id, record) in &view.records {
                owners.insert(format!("{app}/{id}"));
                addresses.insert(format!("service/address/{app}/{}/{id}", record.value.version));
            }
        }
        let ports: BTreeSet<String> = world.ports.values().map(|owner| owner.value.clone()).collect();
        assert_eq!(ports, owners, "ports");
        assert_eq!(world.ports.len(), owners.len());
        let given = world.ledgers.values().flat_map(|ledger| ledger.value.given.keys().cloned());
        assert_eq!(given.collect::<BTreeSet<_>>(), owners, "ledgers");
        let truth = self.fleet.truth.lock().unwrap();
        let runs =
            truth.instances.values().map(|instance| format!("{}/{}", instance.id.app, instance.id.instance));
        assert_eq!(runs.collect::<BTreeSet<_>>(), owners, "instances");
        assert!(truth.instances.values().all(|instance| instance.ended.is_none()));
        assert_eq!(registered(&state), addresses, "registrations");
    }

    pub(super) fn is_quiet(&self) -> bool {
        let world = World::read(self.store.state());
        world.apps.values().all(|view| {
            let settled = view.rollout.as_ref().is_some_and(|rollout| !rollout.value.status.is_active());
            let wanted = view
                .deployment
                .as_ref()
                .map_or(0, |deployment| if deployment.running { deployment.instances as usize } else { 0 });
            let serve = |record: &world::Versioned<Record>| record.value.phase == Phase::Serving;
            settled && view.records.len() == wanted && view.records.values().all(serve)
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.gateways.abort();
        for engine in &self.engines {
            engine.abort();
        }
    }
}

fn registered(state: &State) -> BTreeSet<String> {
    let keys = state.entries.keys().filter(|key| key.as_str().starts_with("service/address/"));
    keys.map(ToString::to_string).collect()
}

async fn gateways(store: Arc<Store>, fleet: Fleet, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 2);
    loop {
        tokio::time::sleep(Duration::from_millis(rng.u64(20..1_500))).await;
        fleet.apply(&store.state());
    }
}

const POLICIES: [&str; 4] = [
    r#"{"surge": 1, "progress_deadline": "120s"}"#,
    r#"{"surge": 0, "unavailable": 1, "progress_deadline": "120s"}"#,
    r#"{"kind": "blue_green", "keep": "5s", "progress_deadline": "120s"}"#,
    r#"{"kind": "canary", "steps": [{"share": 20, "pause": "5s"}], "progress_deadline": "120s",
        "judge": {"max_error_rate": 0.1, "min_requests": 10}}"#,
];

/// Each kills some twenty engines.
const SEEDS: u64 = 16;

async fn disturb(stage: &mut Stage) {
    let apps = ["shop", "blog"];
    let app = apps[stage.rng.usize(..2)];
    let on = if app == "shop" && stage.rng.bool() { "\"blog\"" } else { "" };
    match stage.rng.u32(..10) {
        0..5 => {
            let version = ["v1", "v2", "v1", "v2", "bad", "exits", "missing"][stage.rng.usize(..7)];
            let (count, policy) = (stage.rng.u32(1..5), POLICIES[stage.rng.usize(..POLICIES.len())]);
            let running = stage.rng.u32(..8) > 0;
            stage.memory = ["256MiB", "512MiB"][stage.rng.usize(..2)];
            stage.deploy(app, version, count, policy, running, on);
        }
        5 => stage.store.remove(&format!("deploy/{app}")),
        6 => {
            let host = HostId::parse(&format!("h{}", stage.rng.usize(..3))).unwrap();
            let mut truth = stage.fleet.truth.lock().unwrap();
            if !truth.hanging.remove(&host) {
                truth.hanging.insert(host);
            }
        }
        7 => {
            let mut truth = stage.fleet.truth.lock().unwrap();
            let most = truth.instances.len().max(1);
            let at = truth.rng.usize(..most);
            if let Some(instance) = truth.instances.values_mut().nth(at) {
                instance.ended = Some("killed by signal 9".to_owned());
            }
        }
        8 => stage.fleet.truth.lock().unwrap().error_rate = f64::from(stage.rng.u32(..3)) * 0.1,
        _ => {}
    }
}

async fn run(seed: u64) -> u64 {
    let mut stage = Stage::new(seed, 3);
    let two = seed.is_multiple_of(3);
    stage.start(!two);
    if two {
        // Claims heeded by none of them: what holds does not depend on them.
        stage.start(false);
    }
    stage.store.lose(5);
    stage.odds.store(12, Ordering::Relaxed);
    stage.deploy("shop", "v1", 3, POLICIES[0], true, "");
    for _ in 0..12 {
        disturb(&mut stage).await;
        let time = Duration::from_millis(stage.rng.u64(200..30_000));
        stage.pass(time).await;
    }
    stage.odds.store(0, Ordering::Relaxed);
    stage.store.lose(0);
    {
        let mut truth = stage.fleet.truth.lock().unwrap();
        truth.hanging.clear();
        truth.error_rate = 0.0;
    }
    stage.deploy("shop", "v1", 3, POLICIES[0], true, "\"blog\"");
    stage.deploy("blog", "v2", 2, POLICIES[0], true, "");
    stage.restart().await;
    stage.settle().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.settle().await;
    stage.nothing_leaks();
    let ends = |app| stage.rollout(app).unwrap().status;
    assert!([ends("shop"), ends("blog")].iter().all(|status| !status.is_active()));
    for app in ["shop", "blog"] {
        stage.store.remove(&format!("deploy/{app}"));
    }
    stage
        .until("all is gone", |stage| {
            let world = World::read(stage.store.state());
            world.apps.values().all(|view| view.rollout.is_none() && view.records.is_empty())
        })
        .await;
    stage.pass(Duration::from_secs(30)).await;
    stage.nothing_leaks();
    stage.kills
}

#[test]
fn killed_anywhere_nothing_is_left_behind_and_nothing_is_dropped() {
    let run = |seed| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed))
    };
    if let Ok(seed) = std::env::var("SLUICE_SEED") {
        println!("{} kills", run(seed.parse().unwrap()));
        return;
    }
    let mut kills = 0;
    for seed in 0..SEEDS {
        let ran = std::panic::catch_unwind(|| run(seed));
        kills += ran.unwrap_or_else(|panic| {
            eprintln!("seed {seed}: SLUICE_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        });
    }
    println!("killed {kills} times");
    assert!(kills >= 200, "{kills}");
}
