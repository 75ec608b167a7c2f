//! Other limits for instances that run, and what is measured of all of it.

use tests::eventually;

use crate::api::Events;
use crate::stage::{PATIENCE, Stage, file};

#[test]
fn limits_change_where_an_instance_runs_or_with_another_one_in_its_place() {
    let stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let before = stage.instances("shop")[0]["instance"].clone();
    let mut events = Events::of(&stage);
    let said = stage.shown(0, &["scale", "shop", "--memory", "300MiB", "--cpu", "0.5", "--wait"]);
    assert!(said.contains("300MiB of memory, 0.5 processors are wanted"), "{said}");
    assert!(said.contains("completed, 1 of 1 serve"), "{said}");
    // Where this machine has no cgroups for us, nothing can be changed in place.
    let heard = events.until("other limits").to_owned();
    let in_place = heard.contains("has other limits, where it runs");
    let after = stage.instances("shop")[0]["instance"].clone();
    assert_eq!(before == after, in_place, "{heard}");
    let host = &stage.json(0, &["hosts"])["items"][0];
    assert_eq!(
        (host["memory_given"].as_str(), host["cpu_given"].as_f64()),
        (Some("300MiB"), Some(0.5)),
        "{host}"
    );
    stage.open("shop");
    let said = stage.shown(1, &["scale", "shop", "--memory", "much"]);
    assert!(said.contains("versions.v1.resources.memory"), "{said}");
}

#[test]
fn what_is_deployed_is_measured_and_goes_with_its_app() {
    let stage = Stage::new();
    stage.write(&file("v1", "instances = 2\n"));
    stage.deploy();
    let (app, serving) = (("app", "shop"), ("phase", "serving"));
    eventually(PATIENCE, "both are counted", || {
        let metrics = stage.gateway.metrics();
        metrics.sum("sluice_deploy_wanted", &[app]) == Some(2.0)
            && metrics.sum("sluice_deploy_instances", &[app, serving]) == Some(2.0)
            && metrics.sum("sluice_deploy_standing", &[app, ("standing", "done")]) == Some(1.0)
            && metrics.sum("sluice_deploy_operations_total", &[("kind", "deploy"), ("result", "done")])
                == Some(1.0)
    });
    let metrics = stage.gateway.metrics();
    assert_eq!(metrics.sum("sluice_deploy_host_state", &[("state", "up")]), Some(1.0));
    assert_eq!(
        metrics.sum("sluice_deploy_rollouts_total", &[("kind", "rolling"), ("outcome", "completed")]),
        Some(1.0)
    );
    assert_eq!(metrics.sum("sluice_deploy_phase_seconds_count", &[("phase", "probing")]), Some(2.0));
    assert!(metrics.count("sluice_deploy_pass_seconds_count", &[]) > 0);
    assert_eq!(metrics.sum("sluice_deploy_requests_total", &[("kind", "deploy")]), Some(1.0));
    stage.shown(0, &["deploy", "shop", "--remove", "--wait"]);
    eventually(PATIENCE, "nothing of it is told any more", || {
        !stage.gateway.metrics().text().contains("sluice_deploy_wanted{app=\"shop\"")
            && !stage.gateway.metrics().text().contains("sluice_deploy_instances{app=\"shop\"")
    });
}
