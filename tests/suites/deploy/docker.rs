//! The same on Docker: two engines as two hosts, a private registry, and what goes wrong with each.
//!
//! Engines take seconds to start, so that one test goes through what can share them.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Config, DockerHost, ImageRegistry, Load, comes_true, eventually, no_docker, ports};

use crate::stage::{PATIENCE, Stage};

/// Until an engine that hangs is lost, in the test's configuration, and what it costs to find out.
const LOST: Duration = Duration::from_secs(60);

struct Lab {
    // Ends before its engines do.
    stage: Stage,
    one: DockerHost,
    two: DockerHost,
    registry: ImageRegistry,
}

impl Lab {
    fn start() -> Self {
        let registry = ImageRegistry::start();
        let (one, two) = (DockerHost::start(), DockerHost::start());
        one.push_web(&registry, "shop", "v1", "v1 answers");
        one.push_web(&registry, "shop", "v2", "v2 answers");
        let endpoint = |host: &DockerHost| format!("unix://{}", host.socket().display());
        let lines = format!(
            "runtime = \"docker\"\nhost = \"host-1\"\nports = {:?}\nlost_after = \"5s\"\nmemory = \"2GiB\"\ncpu = 2\n\
             docker = {{ endpoint = {:?}, logins = {:?} }}\n",
            ports(),
            endpoint(&one),
            one.logins().display().to_string(),
        );
        let stage = Stage::configured(Config::new(), &lines);
        let host = json!({
            "address": "127.0.0.1", "memory": "2GiB", "cpu": 2, "ports": ports(), "endpoint": endpoint(&two),
        });
        let (status, body) = stage.api("PUT /v1/hosts/host-2", "", &host);
        assert_eq!(status, 201, "{body}");
        let lab = Self { stage, one, two, registry };
        eventually(PATIENCE, "both engines are hosts", || {
            lab.hosts().iter().filter(|host| host["reachable"] == true).count() == 2
        });
        lab
    }

    fn hosts(&self) -> Vec<Value> {
        self.stage.json(0, &["hosts"])["items"].as_array().cloned().unwrap_or_default()
    }

    /// Instances of the app that serve on a host.
    fn serving(&self, host: &str) -> usize {
        let is_there = |one: &&Value| one["phase"] == "serving" && one["host"] == host;
        self.stage.instances("shop").iter().filter(is_there).count()
    }

    /// An app's file, with one version. Hosts that it failed on are taken again soon.
    fn write(&self, app: &str, image: &str, lines: &str) {
        let image = format!("{}/{image}", self.registry.address());
        self.stage.write(&format!(
            "id = \"{app}\"\n[placement]\nstrategy = \"spread\"\n[restart]\nwindow = \"1s\"\n[rollout]\nprogress_deadline = \"30s\"\nmax_failures = 0\n\
             [versions.v1]\nimage = \"{image}\"\n{lines}\n"
        ));
    }

    fn image(&self, tag: &str) -> String {
        format!("{}/shop:{tag}", self.registry.address())
    }
}

const CLIENTS: usize = 2;
const PROBE: &str = "probe = { interval = \"500ms\", timeout = \"500ms\" }\nstop_grace = \"1s\"";

#[test]
fn the_tour_and_its_accidents_on_two_engines_with_a_private_registry() {
    if let Some(reason) = no_docker() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let mut lab = Lab::start();
    canary_and_back(&lab);
    over_both_hosts(&mut lab);
    a_container_is_killed(&lab);
    let load = Load::start(lab.stage.gateway.web(), "shop.apps.test", CLIENTS);
    what_cannot_run_says_why(&lab);
    a_full_host_says_so(&lab);
    an_engine_that_hangs_is_left_and_cleaned(&lab);
    load.stop().assert_undisturbed();
    an_engine_that_dies_is_left_and_cleaned(&mut lab);
    lab.stage.shown(0, &["deploy", "shop", "--remove", "--wait"]);
    eventually(PATIENCE, "no container is left", || {
        lab.one.containers().is_empty() && lab.two.containers().is_empty()
    });
}

fn canary_and_back(lab: &Lab) {
    let stage = &lab.stage;
    lab.write("shop", "shop:v1", PROBE);
    let said = stage.deploy();
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
    assert_eq!(stage.open("shop"), "v1 answers");
    let canary = "kind = \"canary\"\nsteps = [{ share = 10, pause = \"manual\" }]\n";
    let path = stage.project.path().join("sluice.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    stage.write(&text.replace("[rollout]\n", &format!("[rollout]\n{canary}")));
    stage.deploy();
    let said = stage.shown(0, &["deploy", "shop", "--image", &lab.image("v2"), "--wait"]);
    assert!(said.contains("waits for an operator"), "{said}");
    let answered = stage.versions("shop", 100);
    assert_eq!(answered.iter().filter(|version| *version == "v2").count(), 10, "{answered:?}");
    let said = stage.shown(0, &["rollout", "promote", "shop", "--wait"]);
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
    assert_eq!(stage.open("shop"), "v2 answers");
    stage.shown(0, &["rollout", "undo", "shop", "--to", "v1", "--wait"]);
    stage.shown(0, &["rollout", "promote", "shop", "--wait"]);
    assert!(stage.versions("shop", 10).iter().all(|version| version == "v1"));
}

/// The deploy API is killed in the middle of it.
fn over_both_hosts(lab: &mut Lab) {
    lab.stage.shown(0, &["scale", "shop", "4"]);
    eventually(PATIENCE, "it has begun", || lab.stage.instances("shop").len() > 1);
    lab.stage.restart();
    let said = lab.stage.shown(0, &["rollout", "status", "shop", "--wait"]);
    assert!(said.contains("completed, 4 of 4 serve"), "{said}");
    assert_eq!([lab.serving("host-1"), lab.serving("host-2")], [2, 2]);
    eventually(PATIENCE, "nothing else is left", || {
        [lab.one.containers().len(), lab.two.containers().len()] == [2, 2]
    });
}

fn a_container_is_killed(lab: &Lab) {
    let victim = lab.two.containers().remove(0);
    let killed = lab.two.docker(&["kill", &victim]);
    assert!(killed.status.success(), "{killed:?}");
    eventually(PATIENCE, "another one serves in its place", || {
        !lab.two.containers().contains(&victim) && lab.serving("host-1") + lab.serving("host-2") == 4
    });
    let status = lab.stage.status("shop");
    let reason = status["rollout"]["failures"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("signal 9") || reason.contains("refused"), "{status}");
    lab.stage.open("shop");
    let lines = lab.stage.shown(0, &["logs", "shop"]);
    assert_eq!(lines.lines().filter(|line| line.contains("serving v1")).count(), 4, "{lines}");
}

/// Each in an app of its own, which ends as failed and keeps nothing.
fn what_cannot_run_says_why(lab: &Lab) {
    let slow = "probe = { path = \"/nothing\", interval = \"200ms\", timeout = \"200ms\", deadline = \"1s\" }\n\
                stop_grace = \"1s\"";
    let ends = format!("command = [\"/bin/sh\", \"-c\", \"exit 3\"]\n{PROBE}");
    let none = format!("command = [\"/no/such/program\"]\n{PROBE}");
    for (app, image, lines, why) in [
        ("missing", "shop:v9", PROBE, "shop:v9"),
        ("unknown", "nothing:v1", PROBE, "nothing:v1"),
        ("brief", "shop:v1", &*ends, "ended with code 3"),
        ("lacking", "shop:v1", &*none, "/no/such/program"),
        ("sick", "shop:v1", slow, "did not pass its probes within 1s"),
    ] {
        lab.write(app, image, lines);
        let said = lab.stage.shown(3, &["deploy", lab.stage.folder(), "--wait"]);
        assert!(said.contains(why), "{app}: {said}");
        let status = lab.stage.status(app);
        assert_eq!(
            (&status["standing"], &status["rollout"]["status"]),
            (&json!("given_up"), &json!("failed")),
            "{status}"
        );
        lab.stage.shown(0, &["deploy", app, "--remove", "--wait"]);
    }
    eventually(PATIENCE, "nothing of them is left", || {
        lab.one.containers().len() + lab.two.containers().len() == 4
    });
}

fn a_full_host_says_so(lab: &Lab) {
    lab.write("large", "shop:v1", "resources = { memory = \"3GiB\" }");
    let said = lab.stage.shown(3, &["deploy", lab.stage.folder(), "--dry-run"]);
    assert!(said.contains("host-1") && said.contains("host-2") && said.contains("memory"), "{said}");
    let text = std::fs::read_to_string(lab.stage.project.path().join("sluice.toml")).expect("it was written");
    lab.stage.write(&text.replace("\"30s\"", "\"2s\""));
    let said = lab.stage.shown(3, &["deploy", lab.stage.folder(), "--wait"]);
    assert!(said.contains("none of 2 hosts will do (memory 2)"), "{said}");
    lab.stage.shown(0, &["deploy", "large", "--remove", "--wait"]);
}

fn an_engine_that_hangs_is_left_and_cleaned(lab: &Lab) {
    let frozen = Frozen::new(&lab.two);
    let moved = comes_true(LOST, || lab.serving("host-1") == 4);
    assert!(moved, "{:?}", lab.stage.status("shop"));
    let silent = lab.hosts().into_iter().find(|host| host["id"] == "host-2").expect("it is a host");
    assert_eq!(silent["reachable"], false, "{silent}");
    assert!(!silent["error"].as_str().unwrap_or_default().is_empty(), "{silent}");
    let gone = lab.stage.instances("shop").into_iter().filter(|one| one["host"] == "host-2");
    for one in gone {
        assert!(one["reason"].as_str().unwrap_or_default().contains("host-2 is lost"), "{one}");
    }
    // Other apps, and other versions of the same, come and go meanwhile.
    lab.write("blog", "shop:v2", PROBE);
    let said = lab.stage.deploy();
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
    lab.stage.shown(0, &["deploy", "blog", "--remove", "--wait"]);
    drop(frozen);
    eventually(PATIENCE, "it is cleaned", || {
        lab.two.containers().is_empty() && lab.stage.instances("shop").len() == 4
    });
}

/// An engine that goes on when this is dropped, also by a panic.
struct Frozen<'e>(&'e DockerHost);

impl<'e> Frozen<'e> {
    fn new(engine: &'e DockerHost) -> Self {
        engine.freeze();
        Self(engine)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.thaw();
    }
}

fn an_engine_that_dies_is_left_and_cleaned(lab: &mut Lab) {
    eventually(PATIENCE, "it is a host again", || lab.hosts().iter().all(|host| host["reachable"] == true));
    lab.stage.shown(0, &["scale", "shop", "6", "--wait"]);
    assert_eq!([lab.serving("host-1"), lab.serving("host-2")], [4, 2]);
    let load = Load::start(lab.stage.gateway.web(), "shop.apps.test", CLIENTS);
    lab.two.kill();
    let moved = comes_true(LOST, || lab.serving("host-1") == 6);
    assert!(moved, "{:?}", lab.stage.status("shop"));
    lab.two.revive();
    eventually(PATIENCE, "it is cleaned", || {
        lab.two.containers().is_empty() && lab.stage.instances("shop").len() == 6
    });
    // Its containers are reached through it: a response that had begun ends with it, one for each client at most.
    let report = load.stop();
    assert!(report.ok > 0 && report.failed <= CLIENTS as u64, "{report:?}");
    assert!(report.examples.iter().all(|why| !why.starts_with('5')), "{report:?}");
}
