//! Other limits for what runs, and what it uses of them.

use super::*;

fn sized(memory: &str, count: u32) -> String {
    format!(
        r#"{{"versions": {{"v1": {{"command": ["a"], "resources": {{"memory": "{memory}"}}, "probe": {{"interval": "1s"}}}}}},
            "instances": {count}}}"#
    )
}

async fn sized_stage(seed: u64) -> Stage {
    let mut stage = Stage::new(seed, 3);
    stage.start(true);
    stage.store.put("deploy/shop", &sized("1GiB", 3));
    stage.until("three serve", |stage| serving_ids(stage).len() == 3 && stage.is_quiet()).await;
    stage
}

/// Of all instances, as hosts have it and as ledgers do.
fn memory(stage: &Stage) -> (u64, u64) {
    let truth = stage.fleet.truth.lock().unwrap();
    let given: u64 =
        World::read(stage.store.state()).ledgers.values().map(|ledger| ledger.value.memory()).sum();
    (truth.instances.values().filter_map(|instance| instance.memory).sum(), given)
}

#[tokio::test(start_paused = true)]
async fn other_limits_are_given_where_instances_run() {
    let mut stage = sized_stage(31).await;
    let before = serving_ids(&stage);
    stage.fleet.truth.lock().unwrap().rng = fastrand::Rng::with_seed(3);
    for (size, gib) in [("2GiB", 6), ("1GiB", 3)] {
        let number = stage.rollout("shop").unwrap().number;
        stage.store.put("deploy/shop", &sized(size, 3));
        stage
            .until("it is done", |stage| stage.rollout("shop").unwrap().number > number && stage.is_quiet())
            .await;
        assert_eq!(memory(&stage), (gib << 30, gib << 30), "{size}");
        assert_eq!(stage.rollout("shop").unwrap().status, Status::Completed);
    }
    assert_eq!(serving_ids(&stage), before, "nobody was replaced");
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_have_other_limits_where_it_runs_is_replaced() {
    let mut stage = sized_stage(32).await;
    let before = serving_ids(&stage);
    stage.fleet.truth.lock().unwrap().limits_stay = true;
    stage.store.put("deploy/shop", &sized("2GiB", 3));
    for _ in 0..300 {
        stage.pass(Duration::from_secs(1)).await;
        assert!(serving_ids(&stage).len() >= 3);
    }
    assert!(stage.is_quiet() && serving_ids(&stage).is_disjoint(&before));
    assert_eq!(memory(&stage), (6 << 30, 6 << 30));
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn what_a_host_has_no_room_for_goes_elsewhere_or_is_given_up() {
    let mut stage = sized_stage(33).await;
    let before = serving_ids(&stage);
    stage.store.put(
        "deploy/shop",
        &sized("9GiB", 3)
            .replace("\"instances\"", "\"rollout\": {\"progress_deadline\": \"60s\"}, \"instances\""),
    );
    stage
        .until("it is given up", |stage| {
            ended(stage, "shop").is_some_and(|(status, _)| status == Status::RolledBack)
        })
        .await;
    let (_, why) = ended(&stage, "shop").unwrap();
    assert!(why.contains("none of 3 hosts will do (memory 3)"), "{why}");
    assert_eq!(serving_ids(&stage), before);
    assert_eq!(memory(&stage), (3 << 30, 3 << 30));
}

#[tokio::test(start_paused = true)]
async fn an_app_is_scaled_by_what_its_instances_use_of_their_processors() {
    let mut stage = Stage::new(34, 3);
    stage.start(true);
    let json = r#"{"versions": {"v1": {"command": ["a"], "resources": {"cpu": 0.5}, "probe": {"interval": "1s"}}},
        "autoscale": {"min": 2, "max": 6, "cpu": 0.5, "up_after": "5s", "down_after": "30s"}}"#;
    stage.store.put("deploy/shop", json);
    stage.fleet.truth.lock().unwrap().busy = 0.5;
    stage.until("all that may be serve", |stage| serving_ids(stage).len() == 6).await;
    stage.fleet.truth.lock().unwrap().busy = 0.05;
    let is_alone = |stage: &Stage| World::read(stage.store.state()).apps["shop"].records.len() == 2;
    stage.until("as few as may be are left", is_alone).await;
    stage.nothing_leaks();
}
