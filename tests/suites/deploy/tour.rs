//! The README's tour.

use rustix::process::{Signal, kill_process};
use tests::{Config, DEADLINE, Endpoint, Gateway, Kazoo, ZooKeeperServer, eventually, yields};

use crate::stage::{PATIENCE, Stage, file};

/// A tenth of the traffic, until an operator says so.
const CANARY: &str = "rollout = { kind = \"canary\", steps = [{ share = 10, pause = \"manual\" }] }\n";

#[test]
fn from_a_folder_to_a_canary_and_back() {
    let stage = Stage::new();
    stage.write(&file("v1", CANARY));
    let said = stage.deploy();
    assert!(said.contains("shop: v1 is wanted") && said.contains("completed, 1 of 1 serve"), "{said}");
    assert!(stage.open("shop").starts_with("v1 "));

    stage.write(&file("v2", CANARY));
    let said = stage.deploy();
    assert!(said.contains("waits for an operator"), "{said}");
    let answered = stage.versions("shop", 100);
    let canary = answered.iter().filter(|version| *version == "v2").count();
    assert_eq!(canary, 10, "{answered:?}");

    let said = stage.shown(0, &["rollout", "promote", "shop", "--wait"]);
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
    assert!(stage.versions("shop", 20).iter().all(|version| version == "v2"));

    stage.shown(0, &["rollout", "undo", "shop", "--to", "v1", "--wait"]);
    stage.shown(0, &["rollout", "promote", "shop", "--wait"]);
    assert!(stage.versions("shop", 20).iter().all(|version| version == "v1"));
}

#[test]
fn instances_are_scaled_replaced_and_heard() {
    let stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let said = stage.shown(0, &["scale", "shop", "3", "--wait"]);
    assert!(said.contains("completed, 3 of 3 serve"), "{said}");
    let before = names(&stage);
    assert_eq!(before.len(), 3, "{before:?}");

    let (_, leader) = stage.processes()[0];
    kill_process(leader.expect("it runs"), Signal::KILL).expect("it is ours");
    eventually(PATIENCE, "another instance serves in its place", || {
        let now = names(&stage);
        now.len() == 3 && now.iter().filter(|name| before.contains(name)).count() == 2
    });
    let status = stage.status("shop");
    let reason = status["rollout"]["failures"][0]["reason"].as_str().unwrap_or_default();
    // Whoever notices first: the host that it is gone, or the probe that nobody answers.
    assert!(reason.contains("killed by signal 9") || reason.contains("connection refused"), "{status}");

    stage.open("shop");
    let lines = stage.shown(0, &["logs", "shop"]);
    assert!(lines.contains("listening, v1") && lines.contains("answered /"), "{lines}");
    let hosts = stage.json(0, &["hosts"]);
    assert_eq!(hosts["items"][0]["instances"], 3, "{hosts}");

    let said = stage.shown(0, &["deploy", "shop", "--remove", "--wait"]);
    assert_eq!(said.lines().last(), Some("shop: nothing is left of it"), "{said}");
    eventually(PATIENCE, "it is gone", || {
        stage.json(0, &["apps"])["items"].as_array().is_some_and(Vec::is_empty)
    });
    eventually(PATIENCE, "and so is what its instances left", || stage.folders().is_empty());
}

fn names(stage: &Stage) -> Vec<String> {
    let serving = stage.instances("shop").into_iter().filter(|one| one["phase"] == "serving");
    serving.map(|one| one["instance"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn sigterm_and_a_crash_leave_instances_which_the_next_process_adopts() {
    let mut stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let (before, processes) = (stage.open("shop"), stage.processes());
    stage.gateway.signal(Signal::TERM);
    assert!(stage.gateway.wait(DEADLINE).success());
    stage.restart();
    assert_eq!(
        stage.shown(0, &["rollout", "status", "shop", "--wait"]).lines().next().map(str::trim),
        Some("shop v1: completed, 1 of 1 serve")
    );
    eventually(DEADLINE, "its endpoint is known", || asks(&stage.gateway) == 200);
    assert_eq!((stage.open("shop"), stage.processes()), (before.clone(), processes.clone()));
    stage.restart();
    eventually(DEADLINE, "its endpoint is known", || asks(&stage.gateway) == 200);
    assert_eq!((stage.open("shop"), stage.processes()), (before, processes));
}

fn asks(gateway: &Gateway) -> u16 {
    gateway.get("shop.apps.test", "/").status
}

#[test]
fn an_instance_that_registers_itself_is_served_beside_ours_and_never_touched() {
    let server = ZooKeeperServer::start();
    let stage = Stage::on(Config::new().zookeeper(&server.address().to_string()), "");
    let mut registrar = Kazoo::connect(&server, DEADLINE);
    let endpoint = Endpoint::start("foreign");
    let (path, address) = ("/caas/service/address/shop/v0/c1", endpoint.address().to_string());
    yields(DEADLINE, "it is registered", || registrar.create(path, address.as_bytes(), false).ok());
    stage.write(&file("v1", ""));
    stage.deploy();
    eventually(DEADLINE, "both are served", || {
        let answered = stage.versions("shop", 8);
        answered.iter().any(|version| version == "v1") && answered.iter().any(|version| version != "v1")
    });
    stage.shown(0, &["deploy", "shop", "--remove", "--wait"]);
    assert!(stage.versions("shop", 4).iter().all(|version| version != "v1"));
    let left = yields(DEADLINE, "it is asked for", || registrar.get(path).ok());
    assert!(left.is_some(), "somebody else's registration is gone");
}
