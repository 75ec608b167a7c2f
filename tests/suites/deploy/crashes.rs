//! kill -9 while a rollout is under way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tests::{Config, eventually, ports};

use crate::left::{Registered, Running};
use crate::stage::{PATIENCE, Stage, file};

/// What the gateway has logged of its instances when it is killed: the next moment in every round.
const MOMENTS: [&str; 4] = ["starting", "probing", "leaving", "stopping"];

#[test]
fn a_rollout_goes_on_after_every_crash_and_leaves_nothing_behind() {
    let mut stage = Stage::new();
    let lines = "instances = 2\n";
    stage.write(&file("v1", lines));
    stage.deploy();
    for (round, moment) in MOMENTS.iter().enumerate() {
        let version = if round % 2 == 0 { "v2" } else { "v1" };
        stage.write(&file(version, lines));
        stage.shown(0, &["deploy", stage.folder()]);
        let is_there = |stage: &Stage| stage.instances("shop").iter().any(|one| one["phase"] == *moment);
        // A moment that has passed already is another one.
        eventually(PATIENCE, "the moment, or the end", || is_there(&stage) || is_done(&stage, version));
        stage.restart();
        let said = stage.shown(0, &["rollout", "status", "shop", "--wait"]);
        assert!(said.contains("completed, 2 of 2 serve"), "{moment}: {said}");
        eventually(PATIENCE, "the gateway knows them", || {
            stage.gateway.get("shop.apps.test", "/").status == 200
        });
        assert!(stage.versions("shop", 8).iter().all(|answered| answered == version), "{moment}");
        eventually(PATIENCE, "nothing else is left", || stage.folders().len() == 2);
        let hosts = stage.json(0, &["hosts"]);
        assert_eq!(hosts["items"][0]["instances"], 2, "{moment}: {hosts}");
    }
}

fn is_done(stage: &Stage, version: &str) -> bool {
    let status = stage.status("shop");
    status["standing"] == "done" && status["version"] == version
}

#[test]
fn kills_at_random_moments_leave_what_is_wanted_and_nothing_else() {
    Kills::new().run(5);
}

#[test]
#[ignore = "half an hour: SLUICE_LONG=1 with --ignored"]
fn two_hundred_kills_at_random_moments() {
    if std::env::var_os("SLUICE_LONG").is_some() {
        Kills::new().run(200);
    }
}

/// splitmix64.
struct Lot(u64);

impl Lot {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Kills {
    seed: u64,
    lot: Lot,
    stage: Stage,
    ports: [u16; 2],
    /// How long a rollout takes that nobody disturbs.
    typical: Duration,
    killed: usize,
    /// Rollouts, and how they ended.
    ends: BTreeMap<&'static str, usize>,
    /// How far instances were in the moment of a kill.
    phases: BTreeMap<String, usize>,
}

impl Kills {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(u64::from(now.subsec_nanos()));
        println!("SLUICE_SEED={seed}");
        let ports = ports();
        let stage = Stage::configured(Config::new(), &format!("state = \"instances\"\nports = {ports:?}\n"));
        Self {
            seed,
            lot: Lot(seed),
            stage,
            ports,
            typical: Duration::ZERO,
            killed: 0,
            ends: BTreeMap::new(),
            phases: BTreeMap::new(),
        }
    }

    fn run(mut self, kills: usize) {
        let (mut version, mut number) = ("v1", 2);
        self.stage.write(&quick(version, number));
        self.stage.deploy();
        let began = Instant::now();
        self.stage.write(&quick("v2", number));
        self.stage.deploy();
        (version, self.typical) = ("v2", began.elapsed());
        while self.killed < kills {
            let before = version;
            version = if version == "v1" { "v2" } else { "v1" };
            number = 2 + self.lot.below(2) as usize;
            self.stage.write(&quick(version, number));
            self.stage.shown(0, &["deploy", self.stage.folder()]);
            // One rollout may be cut off more than once.
            let at_once = 1 + self.lot.below(4) as usize;
            for _ in 0..at_once.min(kills - self.killed) {
                self.kill_at_random();
            }
            let served = self.end(version, before, number);
            self.nothing_is_left(number);
            version = served;
        }
        let micros = self.typical.as_millis();
        println!("{} kills, seed {}; a rollout nobody disturbs takes {micros} ms", self.killed, self.seed);
        println!("rollouts: {:?}", self.ends);
        println!("instances in the moment of a kill: {:?}", self.phases);
    }

    fn kill_at_random(&mut self) {
        let longest = u64::try_from(self.typical.as_millis()).expect("it is short");
        // Not for anything to happen: the moment is what the lot says.
        std::thread::sleep(Duration::from_millis(self.lot.below(longest.max(1))));
        self.stage.gateway.kill();
        self.killed += 1;
        for phase in Registered::read(&self.stage).phases.into_values() {
            *self.phases.entry(phase).or_default() += 1;
        }
        self.stage.revive();
    }

    /// Waits for the end of the rollout; says which version serves.
    fn end(&mut self, wanted: &'static str, before: &'static str, number: usize) -> &'static str {
        let said = self.stage.ask(&["rollout", "status", "shop", "--wait"]);
        let (seed, text) = (self.seed, said.text());
        let served = match text.contains(&format!("completed, {number} of {number} serve")) {
            true => wanted,
            false => {
                assert!(text.contains("rolled_back"), "seed {seed}, kill {}: {text}", self.killed);
                before
            }
        };
        *self.ends.entry(if served == wanted { "completed" } else { "rolled back" }).or_default() += 1;
        eventually(PATIENCE, "nothing else is left on the disk", || {
            self.stage.folders().len() == number && self.stage.instances("shop").len() == number
        });
        eventually(PATIENCE, "the gateway knows them", || {
            self.stage.gateway.get("shop.apps.test", "/").status == 200
        });
        let answered = self.stage.versions("shop", 8);
        assert!(answered.iter().all(|version| version == served), "seed {seed}: {answered:?}");
        served
    }

    /// Looks from outside, while nobody can tidy up.
    fn nothing_is_left(&mut self, number: usize) {
        let (seed, killed) = (self.seed, self.killed);
        self.stage.gateway.kill();
        let registered = Registered::read(&self.stage);
        registered.assert_at_rest(number);
        let running = Running::look(&self.stage, self.ports);
        let listening = registered.ports.keys().copied().collect();
        let wanted = Running { commands: number, shims: number, folders: number, listening };
        assert_eq!(running, wanted, "seed {seed}, after {killed} kills");
        self.stage.revive();
    }
}

/// Probes that take little of a rollout, so that more of it is everything else.
fn quick(version: &str, instances: usize) -> String {
    let lines =
        format!("instances = {instances}\nrestart = {{ max = 20 }}\nrollout = {{ max_failures = 10 }}\n");
    file(version, &lines).replace("500ms", "200ms")
}
