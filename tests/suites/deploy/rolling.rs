//! Nothing drops while versions, numbers and directions change.

use tests::{Load, eventually};

use crate::stage::{PATIENCE, Stage, file};

fn rounds() -> usize {
    if std::env::var_os("SLUICE_LONG").is_some() { 20 } else { 3 }
}

#[test]
fn upgrades_scales_and_rollbacks_under_load_drop_nothing() {
    let stage = Stage::new();
    let lines = "instances = 2\n";
    stage.write(&file("v1", lines));
    stage.deploy();
    let load = Load::start(stage.gateway.web(), "shop.apps.test", 4);
    for round in 0..rounds() {
        let before = load.ok();
        stage.write(&file("v2", lines));
        stage.deploy();
        assert!(stage.versions("shop", 8).iter().all(|version| version == "v2"), "round {round}");
        stage.shown(0, &["scale", "shop", "3", "--wait"]);
        stage.shown(0, &["rollout", "undo", "shop", "--to", "v1", "--wait"]);
        assert!(stage.versions("shop", 8).iter().all(|version| version == "v1"), "round {round}");
        stage.shown(0, &["scale", "shop", "2", "--wait"]);
        eventually(PATIENCE, "the load went on", || load.ok() > before);
    }
    let report = load.stop();
    println!("{} rounds: {report:?}", rounds());
    report.assert_undisturbed();
}

#[test]
fn an_instance_is_stopped_when_what_was_under_way_has_ended() {
    let stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let mut client = stage.gateway.connect();
    client.send("GET /slow=3 HTTP/1.1\r\nHost: shop.apps.test\r\n\r\n");
    stage.write(&file("v2", ""));
    stage.shown(0, &["deploy", stage.folder()]);
    let response = client.receive();
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.text().starts_with("v1 "), "{}", response.text());
    let said = stage.shown(0, &["rollout", "status", "shop", "--wait"]);
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
}
