//! What follows when an instance that serves falls ill.

use std::fs;

use serde_json::json;
use tests::{DEADLINE, eventually};

use crate::api::{Events, ask};
use crate::stage::{PATIENCE, Stage};

fn started(lines: &str) -> Stage {
    let stage = Stage::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/suites/deploy/sick.py");
    fs::copy(script, stage.project.path().join("sick.py")).expect("the folder is ours");
    stage.write(&format!(
        "id = \"shop\"\n{lines}\n[versions.v1]\ncommand = [\"/usr/bin/python3\", \"-u\", \"sick.py\"]\n\
         probe = {{ interval = \"200ms\", timeout = \"200ms\" }}\n"
    ));
    stage.deploy();
    stage
}

fn only(stage: &Stage) -> String {
    let instances = stage.instances("shop");
    assert_eq!(instances.len(), 1, "{instances:?}");
    instances[0]["instance"].as_str().unwrap_or_default().to_owned()
}

/// From now on the instance does `how` at `path`.
fn sicken(stage: &Stage, instance: &str, path: &str, how: &str) {
    let (place, draft) = (format!("ill.{instance}"), format!("draft.{instance}"));
    let (place, draft) = (stage.project.path().join(place), stage.project.path().join(draft));
    // Read by many at once: it is there whole or not at all.
    fs::write(&draft, format!("{path} {how}")).expect("the folder is ours");
    fs::rename(draft, place).expect("the folder is ours");
}

#[test]
fn one_that_answers_500_is_replaced_and_the_reason_is_told() {
    let stage = started("[restart]\nbackoff = \"1s\"");
    let mut events = Events::of(&stage);
    let sick = only(&stage);
    sicken(&stage, &sick, "/_ping", "500");
    let why = "leaving: failed 3 probes in a row: answered 500 Internal Server Error; it is replaced";
    let heard = events.until(why).to_owned();
    assert!(heard.contains(&sick), "{heard}");
    eventually(PATIENCE, "another one serves in its place", || {
        let now = stage.instances("shop");
        now.len() == 1 && now[0]["phase"] == "serving" && now[0]["instance"] != *sick
    });
    let status = stage.status("shop");
    let failure = &status["rollout"]["failures"][0];
    assert_eq!(failure["instance"], *sick, "{status}");
    assert!(failure["reason"].as_str().is_some_and(|why| why.starts_with("failed 3 probes in a row")));
    eventually(PATIENCE, "the gateway knows it", || stage.gateway.get("shop.apps.test", "/").status == 200);
}

#[test]
fn one_that_hangs_is_stopped_where_policy_says_so_until_it_is_wanted_back() {
    let stage = started("[restart]\non_unhealthy = \"stop\"");
    let sick = only(&stage);
    sicken(&stage, &sick, "/_ping", "hang");
    eventually(PATIENCE, "it is stopped, and nothing comes in its place", || {
        stage.instances("shop").is_empty() && stage.status("shop")["standing"] == "done"
    });
    let apps = stage.shown(0, &["apps"]);
    assert!(apps.contains("0/0") && apps.contains("1 stopped, and not replaced"), "{apps}");
    assert!(apps.contains("failed 3 probes in a row: ") && apps.contains("it is stopped"), "{apps}");
    eventually(DEADLINE, "nothing of it is left", || stage.folders().is_empty());
    stage.shown(0, &["rollout", "retry", "shop", "--wait"]);
    assert_ne!(only(&stage), sick);
}

/// The engine's own probe asks for another path and finds nothing wrong.
#[test]
fn what_the_gateways_probes_find_is_heeded_too() {
    let stage = started("[restart]\non_unhealthy = \"eject\"");
    let spec = json!({ "health": { "path": "/deep", "interval": "100ms", "timeout": "100ms", "on_failure": "restart" } });
    ask(stage.gateway.admin(), "PUT", "/v1/config/apps/shop", &[], Some(&spec)).expect(201);
    let sick = only(&stage);
    let mut events = Events::of(&stage);
    sicken(&stage, &sick, "/deep", "500");
    let heard = events.until("it is replaced").to_owned();
    assert!(heard.contains("probes of a gateway in a row:"), "{heard}");
    eventually(PATIENCE, "another one serves in its place", || {
        let now = stage.instances("shop");
        now.len() == 1 && now[0]["phase"] == "serving" && now[0]["instance"] != *sick
    });
    let metrics = stage.gateway.metrics();
    let heard = metrics.count("sluice_endpoint_failures_total", &[("action", "restart"), ("heard", "yes")]);
    assert!(heard >= 1, "{heard}");
}
