//! kill -9 while a rollout is under way.

use tests::eventually;

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
