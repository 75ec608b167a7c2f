//! Two deploy APIs on one registry, told opposite things in the same moment: there is one outcome, and each has said the
//! truth of it.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tests::{Config, DEADLINE, Kazoo, ZooKeeperServer, eventually, ports, yields};

use crate::stage::{PATIENCE, Stage, file};

const CANARY: &str = "rollout = { kind = \"canary\", steps = [{ share = 10, pause = \"manual\" }] }\n";

/// Two processes that look after the same machine: the runtime's folder and the registry are theirs in common.
struct Pair {
    // Ends first: the other one's folder is gone after it.
    two: Stage,
    one: Stage,
    registry: ZooKeeperServer,
}

type Answer = (u16, Value);

impl Pair {
    fn start() -> Self {
        let registry = ZooKeeperServer::start();
        let config = |id: &str| Config::new().zookeeper(&registry.address().to_string()).id(id);
        let state = tempfile::TempDir::with_prefix("sluice-state-").expect("a temporary folder can be made");
        let lines = format!(
            "host = \"machine\"\nstate = {:?}\nports = {:?}\n",
            state.path().display().to_string(),
            ports()
        );
        let mut one = Stage::configured(config("gw-1"), &lines);
        let two = Stage::configured(config("gw-2"), &lines);
        one.keep(state);
        Self { two, one, registry }
    }

    /// Both are told something as nearly at once as threads can.
    fn at_once(
        &self,
        one: impl Fn(&Stage) -> Answer + Sync,
        two: impl Fn(&Stage) -> Answer + Sync,
    ) -> [Answer; 2] {
        let together = Barrier::new(2);
        let tell = |stage: &Stage, what: &(dyn Fn(&Stage) -> Answer + Sync)| {
            together.wait();
            what(stage)
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| tell(&self.one, &one));
            let second = tell(&self.two, &two);
            [first.join().expect("it was told"), second]
        })
    }

    fn both(&self) -> [&Stage; 2] {
        [&self.one, &self.two]
    }

    fn deployed(lines: &str) -> Self {
        let pair = Self::start();
        pair.one.write(&file("v1", lines));
        pair.one.deploy();
        pair
    }
}

fn wanted(stage: &Stage) -> (String, Value) {
    let (status, body) = stage.api("GET /v1/apps/shop", "", &Value::Null);
    assert_eq!(status, 200, "{body}");
    (body["etag"].as_str().unwrap_or_default().to_owned(), body["deployment"].clone())
}

fn number(etag: &str) -> u64 {
    etag.trim_matches('"').parse().unwrap_or_else(|_| panic!("{etag:?} is no etag"))
}

fn told(answer: &Answer) -> &str {
    answer.1["detail"].as_str().unwrap_or_default()
}

#[test]
fn of_two_who_write_on_the_same_version_one_has_written() {
    let pair = Pair::deployed("");
    for round in 0..40_u32 {
        let (etag, known) = wanted(&pair.one);
        eventually(DEADLINE, "the other one knows it", || wanted(&pair.two).0 == etag);
        let with = |minutes: u32| {
            let mut value = known.clone();
            value["rollout"] = json!({ "progress_deadline": format!("{minutes}m") });
            value
        };
        let condition = format!("If-Match: {etag}\r\n");
        let put = |minutes| {
            let (value, condition) = (with(minutes), condition.clone());
            move |stage: &Stage| stage.api("PUT /v1/apps/shop", &condition, &value)
        };
        let (mine, theirs) = (20 + 2 * round, 21 + 2 * round);
        let answers = pair.at_once(put(mine), put(theirs));
        let statuses = [answers[0].0, answers[1].0];
        assert!(matches!(statuses, [200, 412] | [412, 200]), "round {round}: {answers:?}");
        let (won, minutes) = if statuses[0] == 200 { (&answers[0].1, mine) } else { (&answers[1].1, theirs) };
        for stage in pair.both() {
            eventually(DEADLINE, "the winner's is there", || wanted(stage).0 == won["etag"]);
            assert_eq!(
                wanted(stage).1["rollout"]["progress_deadline"],
                format!("{minutes}m"),
                "round {round}"
            );
        }
    }
}

#[test]
fn of_two_numbers_the_later_one_is_what_runs() {
    let pair = Pair::deployed("");
    for round in 0..12 {
        let scale = |instances: u32| {
            move |stage: &Stage| stage.api("POST /v1/apps/shop/scale", "", &json!({ "instances": instances }))
        };
        let (mine, theirs) = if round % 2 == 0 { (1, 3) } else { (2, 1) };
        let answers = pair.at_once(scale(mine), scale(theirs));
        // Neither is conditional: both are done, one after the other.
        assert_eq!([answers[0].0, answers[1].0], [200, 200], "round {round}: {answers:?}");
        let etags = answers.each_ref().map(|(_, body)| number(body["etag"].as_str().unwrap_or_default()));
        assert_ne!(etags[0], etags[1], "round {round}: {answers:?}");
        let last = if etags[0] > etags[1] { mine } else { theirs };
        for stage in pair.both() {
            eventually(DEADLINE, "the later one's is there", || {
                let (etag, value) = wanted(stage);
                number(&etag) == etags[0].max(etags[1]) && value["instances"] == last
            });
        }
        if round >= 10 {
            let said = pair.two.shown(0, &["rollout", "status", "shop", "--wait"]);
            assert!(said.contains(&format!("completed, {last} of {last} serve")), "round {round}: {said}");
        }
    }
}

#[test]
fn of_promote_and_undo_both_are_told_what_came_of_it() {
    let pair = Pair::deployed(CANARY);
    pair.two.write(&file("v2", CANARY));
    pair.two.shown(0, &["deploy", pair.two.folder()]);
    let order = |action: &'static str| {
        move |stage: &Stage| stage.api("POST /v1/apps/shop/rollout", "", &json!({ "action": action }))
    };
    let settled = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        for stage in pair.both() {
            eventually(PATIENCE, what, || is_so(&stage.status("shop")));
        }
    };
    for round in 0..6 {
        settled("the canary waits", &|status| status["standing"] == "waiting");
        let [promoted, undone] = match round % 2 {
            0 => pair.at_once(order("promote"), order("undo")),
            _ => {
                let [undone, promoted] = pair.at_once(order("undo"), order("promote"));
                [promoted, undone]
            }
        };
        // The second is judged by what the first has made of it: what is promoted can still be undone, what goes back
        // cannot be promoted.
        match (promoted.0, undone.0) {
            (200, 200) => {}
            (409, 200) => {
                let is_true =
                    ["is rolling_back", "is rolled_back"].iter().any(|is| told(&promoted).contains(is));
                assert!(is_true, "round {round}: {promoted:?}");
            }
            answers => panic!("round {round}: {answers:?}: {promoted:?}, {undone:?}"),
        }
        settled("it is undone", &|status| {
            status["rollout"]["status"] == "rolled_back" && status["standing"] == "given_up"
        });
        for stage in pair.both() {
            eventually(PATIENCE, "v1 alone answers", || {
                stage.versions("shop", 20).iter().all(|version| version == "v1")
            });
        }
        let (status, body) = order("retry")(if round % 2 == 0 { &pair.one } else { &pair.two });
        assert_eq!(status, 200, "round {round}: {body}");
    }
}

#[test]
fn when_the_one_that_works_dies_the_other_goes_on() {
    let mut pair = Pair::deployed(CANARY);
    let mut registry = Kazoo::connect(&pair.registry, DEADLINE);
    pair.two.write(&file("v2", CANARY));
    pair.two.shown(0, &["deploy", pair.two.folder(), "--wait"]);
    let mut claim =
        || yields(DEADLINE, "somebody has claimed it", || registry.get("/caas/claim/shop").ok()?);
    let holder = claim();
    // Whoever logs what is decided has the claim.
    let works = |stage: &Stage| stage.gateway.output().contains("\"target\":\"sluice::deploy\"");
    let first_works = works(&pair.one);
    assert_ne!(first_works, works(&pair.two), "one of them works");
    let (dead, left) = if first_works { (&mut pair.one, &pair.two) } else { (&mut pair.two, &pair.one) };
    dead.gateway.kill();
    left.shown(0, &["rollout", "promote", "shop"]);
    left.shown(0, &["scale", "shop", "2"]);
    eventually(PATIENCE, "the other one begins what is to be done", || left.instances("shop").len() > 2);
    assert_ne!(claim(), holder, "the claim is the other one's");
    // A gateway that went without a word may serve on, and is waited for; so it comes back.
    dead.revive();
    let said = left.shown(0, &["rollout", "status", "shop", "--wait"]);
    assert!(said.contains("completed, 2 of 2 serve"), "{said}");
    for stage in pair.both() {
        eventually(PATIENCE, "v2 alone answers", || {
            stage.versions("shop", 20).iter().all(|version| version == "v2")
        });
    }
}
