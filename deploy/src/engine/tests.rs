//! What becomes of an app, told by its end. Virtual time, and nobody is killed here: see `simulation`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use discovery::embedded::Embedded;
use discovery::registry::Link;

use super::simulation::Stage;
use super::simulation::fleet::Fleet;
use super::simulation::registry::Store;
use super::*;
use crate::model::{Ledger, OperationKind, Phase, Release, Repeat, Rollout, Share, Status};
use crate::rollout::command::Command;
use crate::scheduler;

const QUICK: &str = r#"{"surge": 1, "progress_deadline": "120s"}"#;

fn app(id: &str) -> AppId {
    AppId::parse(id).unwrap()
}

fn asks(kind: OperationKind) -> Asked {
    Asked::once(kind, "a test")
}

async fn deployed(seed: u64, hosts: usize, instances: u32) -> Stage {
    let mut stage = Stage::new(seed, hosts);
    stage.start(true);
    stage.deploy("shop", "v1", instances, QUICK, true, "");
    stage
        .until("v1 serves", move |stage| {
            stage.serving("shop", "v1") == instances as usize && stage.is_quiet()
        })
        .await;
    stage
}

fn ended(stage: &Stage, app: &str) -> Option<(Status, String)> {
    let rollout = stage.rollout(app)?;
    (!rollout.status.is_active()).then(|| (rollout.status, rollout.reason.unwrap_or_default()))
}

#[tokio::test(start_paused = true)]
async fn upgrades_of_each_kind_end_with_the_new_version_alone() {
    for policy in [
        QUICK,
        r#"{"surge": 0, "unavailable": 1}"#,
        r#"{"kind": "blue_green", "keep": "5s"}"#,
        r#"{"kind": "canary", "steps": [{"share": 10, "pause": "5s"}, {"share": 50}], "judge": {"max_error_rate": 0.1}}"#,
    ] {
        let mut stage = deployed(1, 3, 3).await;
        stage.deploy("shop", "v2", 3, policy, true, "");
        stage.until("v2 serves alone", |stage| stage.serving("shop", "v2") == 3 && stage.is_quiet()).await;
        stage.nothing_leaks();
        assert_eq!(stage.rollout("shop").unwrap().status, Status::Completed, "{policy}");
        let spec = stage.store.state().entries.get("app/shop").map(|entry| entry.value.clone());
        assert!(spec.is_none_or(|spec| &spec[..] == b"{}"), "no split is left");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_is_rolled_back_with_its_reason_and_harms_nobody() {
    for (version, why) in [
        ("missing", "no such image"),
        ("exits", "ended with code 1"),
        ("bad", "did not pass its probes within 15s: 503"),
    ] {
        let mut stage = deployed(2, 3, 3).await;
        stage.deploy("shop", version, 3, QUICK, true, "");
        stage
            .until("it has ended", |stage| {
                ended(stage, "shop").is_some_and(|(status, _)| status == Status::RolledBack)
            })
            .await;
        let (_, reason) = ended(&stage, "shop").unwrap();
        assert!(reason.contains(why), "{version}: {reason}");
        stage.until("v1 serves", |stage| stage.serving("shop", "v1") == 3 && stage.is_quiet()).await;
        stage.nothing_leaks();
        // It is not tried again by itself, but when it is asked for.
        stage.pass(Duration::from_secs(600)).await;
        assert_eq!(stage.rollout("shop").unwrap().number, 2);
        stage.command("shop", Command::Retry).await.unwrap();
        stage.until("it is tried again", |stage| stage.rollout("shop").unwrap().number == 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_cannot_run_fails_and_leaves_nothing() {
    let mut stage = Stage::new(3, 2);
    stage.start(true);
    stage.deploy("shop", "missing", 2, QUICK, true, "");
    stage
        .until("it has failed", |stage| {
            ended(stage, "shop").is_some_and(|(status, _)| status == Status::Failed)
        })
        .await;
    stage.pass(Duration::from_secs(60)).await;
    stage.nothing_leaks();
    assert!(ended(&stage, "shop").unwrap().1.contains("no such image"));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_is_full_says_what_is_missing() {
    let mut stage = Stage::new(4, 2);
    stage.start(true);
    stage.deploy("shop", "v1", 50, QUICK, true, "");
    stage.until("it has ended", |stage| ended(stage, "shop").is_some()).await;
    let (status, reason) = ended(&stage, "shop").unwrap();
    assert_eq!(status, Status::Failed);
    assert!(reason.contains("of 50 new instances serve: none of 2 hosts will do (port 2)"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_host_is_left_and_is_cleaned_when_it_is_back() {
    let mut stage = deployed(5, 3, 3).await;
    let lost = HostId::parse("h0").unwrap();
    stage.fleet.truth.lock().unwrap().hanging.insert(lost.clone());
    stage
        .until("three serve elsewhere", |stage| {
            let world = World::read(stage.store.state());
            let serves = |record: &&world::Versioned<Record>| {
                record.value.phase == Phase::Serving && record.value.host.as_str() != "h0"
            };
            world.apps["shop"].records.values().filter(serves).count() == 3
        })
        .await;
    stage.fleet.truth.lock().unwrap().hanging.clear();
    stage.until("all is quiet", Stage::is_quiet).await;
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_is_left_without_fewer_serving() {
    let mut stage = deployed(6, 3, 3).await;
    stage.store.put("host/h0", r#"{"address": "10.0.0.0", "memory": "8GiB", "cpu": 8, "drained": true}"#);
    for _ in 0..600 {
        stage.pass(Duration::from_secs(1)).await;
        assert!(stage.serving("shop", "v1") >= 3);
        let world = World::read(stage.store.state());
        if world.apps["shop"].records.values().all(|record| record.value.host.as_str() != "h0") {
            return stage.nothing_leaks();
        }
    }
    panic!("h0 is not left");
}

#[tokio::test(start_paused = true)]
async fn leaves_start_first_and_stop_last() {
    let mut stage = Stage::new(7, 3);
    stage.start(true);
    let records = |stage: &Stage, app: &str| {
        World::read(stage.store.state()).apps.get(app).map_or(0, |view| view.records.len())
    };
    stage.deploy("shop", "v1", 2, QUICK, true, "\"blog\"");
    stage.pass(Duration::from_secs(30)).await;
    assert_eq!(records(&stage, "shop"), 0);
    assert_eq!(stage.rollout("shop").unwrap().reason.unwrap(), "waits for blog, which nobody has deployed");
    stage.deploy("blog", "v1", 1, QUICK, true, "");
    stage.until("both serve", Stage::is_quiet).await;
    stage.deploy("blog", "v1", 1, QUICK, false, "");
    stage.deploy("shop", "v1", 2, QUICK, false, "\"blog\"");
    while records(&stage, "shop") > 0 {
        let world = World::read(stage.store.state());
        let dependents_run =
            world.apps["shop"].records.values().any(|record| record.value.phase < Phase::Stopping);
        if dependents_run {
            assert_eq!(stage.serving("blog", "v1"), 1);
        }
        stage.pass(Duration::from_millis(100)).await;
    }
    stage.until("both are stopped", Stage::is_quiet).await;
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn of_two_conflicting_commands_both_are_told_what_is_true() {
    let mut stage = deployed(8, 3, 3).await;
    stage.deploy("shop", "bad", 3, QUICK, true, "");
    stage
        .until("it is under way", |stage| stage.rollout("shop").unwrap().status == Status::Progressing)
        .await;
    let (one, other) = (stage.engine().operator(), stage.engine().operator());
    let id = app("shop");
    let (pause, undo) = (asks(OperationKind::Pause), asks(OperationKind::Undo));
    let (paused, undone) =
        tokio::join!(one.command(&id, Command::Pause, &pause), other.command(&id, Command::Undo, &undo));
    assert_eq!(undone.unwrap().0.status, Status::RollingBack);
    match paused {
        Ok((paused, _)) => assert_eq!(paused.status, Status::Paused),
        Err(refused) => assert_eq!(refused.to_string(), "cannot pause a rollout that is rolling_back"),
    }
    assert_eq!(stage.rollout("shop").unwrap().status, Status::RollingBack);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_sealed_and_a_change_of_it_rolls_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(9, 2);
    stage.keys = Some(sealing_keys(folder.path()));
    stage.start(true);
    let operator = stage.engine().operator();
    let json =
        r#"{"versions": {"v1": {"command": ["a"], "secrets": {"DB": "db.password"}}}, "instances": 2}"#;
    operator.put(&app("shop"), json.into(), Expect::Absent, &asks(OperationKind::Deploy)).await.unwrap();
    stage.until("it has failed", |stage| ended(stage, "shop").is_some()).await;
    let (_, reason) = ended(&stage, "shop").unwrap();
    assert_eq!(reason, "secrets.DB: the app's configuration has no db.password; set it");
    for secret in ["s3cret-1", "s3cret-2"] {
        let config = ConfigChange::Replace([("db.password".to_owned(), secret.to_owned())].into());
        operator.configure(&app("shop"), &config, &asks(OperationKind::Configure)).await.unwrap();
        stage
            .until("all have it", |stage| {
                let truth = stage.fleet.truth.lock().unwrap();
                let has = |it: &super::simulation::fleet::Instance| it.environment["DB"] == secret;
                truth.instances.len() == 2 && truth.instances.values().all(has)
            })
            .await;
    }
    let state = stage.store.state();
    let tells = |value: &[u8]| value.windows(6).any(|window| window == b"s3cret");
    assert!(state.entries.values().all(|entry| !tells(&entry.value)), "the registry knows no secret");
}

fn serving_ids(stage: &Stage) -> BTreeSet<String> {
    let world = World::read(stage.store.state());
    let serves = |(id, record): (&InstanceId, &world::Versioned<Record>)| {
        (record.value.phase == Phase::Serving).then(|| id.to_string())
    };
    world.apps["shop"].records.iter().filter_map(serves).collect()
}

/// What the rollout remembers last.
fn last_failure(stage: &Stage) -> String {
    stage.rollout("shop").unwrap().failures.last().map(|failure| failure.reason.clone()).unwrap_or_default()
}

fn policed(restart: &str) -> String {
    format!(
        r#"{{"versions": {{"v1": {{"command": ["a"], "probe": {{"interval": "1s", "fall": 3}}}}}}, "instances": 3,
            "restart": {restart}}}"#
    )
}

async fn policed_stage(seed: u64, restart: &str) -> Stage {
    let mut stage = Stage::new(seed, 3);
    stage.start(true);
    stage.store.put("deploy/shop", &policed(restart));
    stage.until("three serve", |stage| serving_ids(stage).len() == 3 && stage.is_quiet()).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_its_probes_is_replaced_with_back_off_and_the_reason() {
    let mut stage = policed_stage(21, r#"{"backoff": "20s", "max_backoff": "60s"}"#).await;
    let before = serving_ids(&stage);
    let sick = before.iter().next().unwrap().clone();
    stage.fleet.truth.lock().unwrap().sick.insert(sick.clone());
    stage.until("it goes", |stage| !serving_ids(stage).contains(&sick)).await;
    let operator = stage.engine().operator();
    let said = operator.status(&app("shop")).unwrap();
    let waits_for = said.waits_for.unwrap();
    assert!(waits_for.starts_with("starts another one after its back-off: failed 3 probes"), "{waits_for}");
    stage.pass(Duration::from_secs(15)).await;
    assert_eq!(serving_ids(&stage).len(), 2, "the back-off is not over");
    stage.until("another one serves", |stage| serving_ids(stage).len() == 3 && stage.is_quiet()).await;
    assert_eq!(serving_ids(&stage).intersection(&before).count(), 2);
    assert_eq!(last_failure(&stage), "failed 3 probes in a row: 500; it is replaced");
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn no_more_are_replaced_within_the_window_than_policy_says() {
    let policy = r#"{"backoff": "1s", "max_backoff": "1s", "max": 3, "window": "10m"}"#;
    let mut stage = policed_stage(22, policy).await;
    let began = stage.fleet.truth.lock().unwrap().started;
    // Whatever serves falls ill.
    for _ in 0..120 {
        let ill = serving_ids(&stage);
        stage.fleet.truth.lock().unwrap().sick.extend(ill);
        stage.pass(Duration::from_secs(1)).await;
    }
    let replaced = stage.fleet.truth.lock().unwrap().started - began;
    assert!((1..=4).contains(&replaced), "{replaced} were started");
}

#[tokio::test(start_paused = true)]
async fn one_that_policy_stops_stays_away_until_an_operator_wants_it_back() {
    let mut stage = policed_stage(23, r#"{"on_unhealthy": "stop"}"#).await;
    let sick = serving_ids(&stage).into_iter().next().unwrap();
    stage.fleet.truth.lock().unwrap().sick.insert(sick.clone());
    stage.until("it goes", |stage| !serving_ids(stage).contains(&sick)).await;
    stage.pass(Duration::from_secs(700)).await;
    assert_eq!(serving_ids(&stage).len(), 2);
    let status = stage.engine().operator().status(&app("shop")).unwrap();
    assert_eq!((status.standing(), status.count()), (Standing::Done, 2));
    let why = status.withheld().unwrap();
    assert!(why.ends_with("failed 3 probes in a row: 500; it is stopped"), "{why}");
    stage.command("shop", Command::Retry).await.unwrap();
    stage.until("three serve again", |stage| serving_ids(stage).len() == 3).await;
    stage.nothing_leaks();
}

#[tokio::test(start_paused = true)]
async fn a_gateways_word_is_heeded_and_the_sterner_of_two() {
    use crate::lifecycle::Complaint;
    use crate::model::UnhealthyAction;

    for (policy, action, stays) in [
        ("eject", UnhealthyAction::Restart, 3),
        ("restart", UnhealthyAction::Stop, 2),
        ("stop", UnhealthyAction::Restart, 2),
    ] {
        let mut stage = policed_stage(24, &format!(r#"{{"on_unhealthy": "{policy}"}}"#)).await;
        let one = serving_ids(&stage).into_iter().next().unwrap();
        let complaint = Complaint { action, failures: 6, why: "answered 503".to_owned() };
        stage.fleet.truth.lock().unwrap().complaints.insert(one.clone(), complaint);
        stage.until("it goes", |stage| !serving_ids(stage).contains(&one)).await;
        stage.pass(Duration::from_secs(60)).await;
        assert_eq!(serving_ids(&stage).len(), stays, "{policy}");
        let why = last_failure(&stage);
        assert!(why.starts_with("failed 6 probes of a gateway in a row: answered 503; it is"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_only_ejected_stays_where_it_is() {
    let mut stage = policed_stage(25, r#"{"on_unhealthy": "eject"}"#).await;
    let before = serving_ids(&stage);
    let sick = before.iter().next().unwrap().clone();
    stage.fleet.truth.lock().unwrap().sick.insert(sick);
    stage.pass(Duration::from_secs(120)).await;
    assert_eq!(serving_ids(&stage), before);
}

#[tokio::test(start_paused = true)]
async fn names_of_a_configuration_are_kept_changed_and_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(11, 2);
    stage.keys = Some(sealing_keys(folder.path()));
    stage.start(true);
    let operator = stage.engine().operator();
    let shop = app("shop");
    let merge = |name: &str, value: Option<&str>| {
        ConfigChange::Merge([(name.to_owned(), value.map(str::to_owned))].into())
    };
    let asked = asks(OperationKind::Configure);
    // Before there is an app.
    operator.configure(&shop, &merge("db.password", Some("a")), &asked).await.unwrap();
    operator.configure(&shop, &merge("other", Some("b")), &asked).await.unwrap();
    assert_eq!(operator.config_names(&shop).await.unwrap(), ["db.password", "other"]);
    let json = r#"{"versions": {"v1": {"command": ["a"], "secrets": {"DB": "db.password"}}}}"#;
    operator.put(&shop, json.into(), Expect::Absent, &asks(OperationKind::Deploy)).await.unwrap();
    stage.until("it serves", |stage| stage.serving("shop", "v1") == 1 && stage.is_quiet()).await;
    let generation = |stage: &Stage| {
        let world = World::read(stage.store.state());
        world.apps["shop"].deployment.as_ref().unwrap().config_generation
    };
    let operator = stage.engine().operator();
    let refused = operator.configure(&shop, &merge("db.password", None), &asked).await.unwrap_err();
    assert!(refused.to_string().starts_with("db.password is in use: secrets.DB of the wanted version"));
    operator.configure(&shop, &merge("db.password", Some("a")), &asked).await.unwrap();
    assert_eq!(generation(&stage), 0, "nothing is otherwise, and nothing is rolled");
    operator.configure(&shop, &merge("other", None), &asked).await.unwrap();
    assert_eq!(generation(&stage), 1);
    assert_eq!(operator.config_names(&shop).await.unwrap(), ["db.password"]);
    let large = merge("large", Some(&"x".repeat(300 << 10)));
    assert!(
        operator
            .configure(&shop, &large, &asked)
            .await
            .unwrap_err()
            .to_string()
            .contains("the limit is 262144")
    );
    operator.delete(&shop, Expect::Any, &asks(OperationKind::Remove)).await.unwrap();
    stage.until("nothing is left", |stage| !stage.store.state().entries.contains_key("config/shop")).await;
}

fn sealing_keys(folder: &std::path::Path) -> Arc<Keys> {
    use std::os::unix::fs::PermissionsExt;

    let path = folder.join("keys");
    std::fs::write(&path, discovery::secrets::new_key("a").unwrap()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Arc::new(Keys::open(&path).unwrap())
}

fn keyed(kind: OperationKind, key: &str, request: &str) -> Asked {
    let repeat = Repeat { key: key.to_owned(), request: request.to_owned() };
    Asked { repeat: Some(repeat), ..asks(kind) }
}

#[tokio::test(start_paused = true)]
async fn who_asks_twice_with_one_key_does_it_once_whoever_is_asked() {
    let mut stage = deployed(12, 3, 2).await;
    let (one, other) = (stage.engine().operator(), stage.engine().operator());
    let shop = app("shop");
    let written = one.written(&shop).unwrap().0;
    let text = String::from_utf8(written.to_vec()).unwrap().replace("\"instances\": 2", "\"instances\": 3");
    let asked = keyed(OperationKind::Scale, "k", "r");
    let (first, second) = tokio::join!(
        one.put(&shop, text.clone().into(), Expect::Any, &asked),
        other.put(&shop, text.clone().into(), Expect::Any, &asked)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.operation.id, second.operation.id);
    assert_eq!([first.version, second.version].iter().flatten().count(), 1, "written once");
    let reused = one.put(&shop, text.into(), Expect::Any, &keyed(OperationKind::Scale, "k", "other")).await;
    assert!(matches!(reused, Err(OperatorError::KeyReused(id)) if id == first.operation.id));
    stage.restart().await;
    let state = move |stage: &mut Stage| {
        let known = stage.engine().operator().operations(&app("shop"));
        known.into_iter().find(|(known, _)| known.id == first.operation.id).unwrap()
    };
    stage.until("three serve", |stage| stage.serving("shop", "v1") == 3 && stage.is_quiet()).await;
    stage.pass(Duration::from_secs(10)).await;
    let (operation, how) = state(&mut stage);
    assert_eq!((how.name(), operation.outcome.map(|outcome| outcome.result.name())), ("done", Some("done")));
    // What has become of it stays so.
    stage.deploy("shop", "bad", 3, QUICK, true, "");
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(state(&mut stage).1.name(), "done");
}

#[tokio::test(start_paused = true)]
async fn operations_end_as_failed_undone_overtaken_or_removed() {
    let mut stage = deployed(13, 3, 2).await;
    let operator = stage.engine().operator();
    let shop = app("shop");
    let text = String::from_utf8(operator.written(&shop).unwrap().0.to_vec()).unwrap();
    let deploy = |version: &str| {
        Bytes::from(text.replace("\"version\": \"v1\"", &format!("\"version\": \"{version}\"")))
    };
    let states = |stage: &mut Stage| -> Vec<_> {
        let known = stage.engine().operator().operations(&app("shop"));
        known.iter().map(|(operation, state)| (operation.kind.name(), state.name())).collect()
    };
    operator.put(&shop, deploy("bad"), Expect::Any, &asks(OperationKind::Deploy)).await.unwrap();
    stage.pass(Duration::from_secs(2)).await;
    assert_eq!(states(&mut stage), [("deploy", "running")]);
    operator.command(&shop, Command::Undo, &asks(OperationKind::Undo)).await.unwrap();
    stage.until("it is undone", |stage| stage.serving("shop", "v1") == 2 && stage.is_quiet()).await;
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(states(&mut stage), [("deploy", "failed"), ("undo", "done")]);
    operator.put(&shop, deploy("v2"), Expect::Any, &asks(OperationKind::Deploy)).await.unwrap();
    operator.delete(&shop, Expect::Any, &asks(OperationKind::Remove)).await.unwrap();
    stage.until("nothing is left", |stage| !stage.store.state().entries.contains_key("rollout/shop")).await;
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(states(&mut stage)[2..], [("deploy", "overtaken"), ("remove", "done")]);
    // What was asked days ago of an app that is gone is forgotten.
    let old = stage.store.state().entries["operation/shop"].value.clone();
    let old = String::from_utf8(old.to_vec()).unwrap().replace("\"at\":17", "\"at\":16");
    stage.store.put("operation/gone", &old);
    stage.pass(Duration::from_secs(10)).await;
    let state = stage.store.state();
    assert!(!state.entries.contains_key("operation/gone") && state.entries.contains_key("operation/shop"));
}

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

#[tokio::test(start_paused = true)]
async fn what_was_taken_away_by_hand_is_counted_anew() {
    let mut stage = deployed(10, 3, 3).await;
    let state = stage.store.state();
    let record = state.entries.keys().find(|key| key.as_str().starts_with("instance/shop/")).unwrap();
    stage.store.remove(record.as_str());
    let id = record.as_str().rsplit('/').next().unwrap();
    stage.store.remove(&format!("service/address/shop/v1/{id}"));
    stage.pass(Duration::from_secs(60)).await;
    stage.until("three serve again", |stage| stage.serving("shop", "v1") == 3 && stage.is_quiet()).await;
    stage.pass(Duration::from_secs(30)).await;
    stage.nothing_leaks();
}

#[tokio::test]
async fn the_embedded_registry_carries_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Embedded::open(folder.path()).unwrap();
    let fleet = Fleet::new(1, 1);
    let tools = Tools {
        registry: registry.clone(),
        hosts: Arc::new(fleet.clone()),
        gateways: Arc::new(fleet.clone()),
        prober: Arc::new(fleet.clone()),
        keys: None,
        meter: Arc::default(),
        clock: system_clock(),
    };
    let engine =
        Engine::new(tools, Settings { list_every: Duration::from_millis(100), ..Settings::default() });
    let operator = engine.operator();
    let mut changes = registry.watch();
    let applying = tokio::spawn({
        let (mut changes, fleet) = (registry.watch(), fleet.clone());
        async move {
            while changes.changed().await.is_ok() {
                let state = changes.borrow_and_update().clone();
                fleet.apply(&state);
            }
        }
    });
    let running = tokio::spawn(engine.run());
    let host = br#"{"address": "10.0.0.1", "memory": "8GiB", "cpu": 8}"#;
    let key = keys::host(&HostId::parse("h1").unwrap());
    registry.write(&key, host.to_vec().into(), Expect::Absent, Lifetime::Persistent).await.unwrap();
    let json = r#"{"versions": {"v1": {"command": ["a"], "probe": {"interval": "100ms"}}}, "instances": 2}"#;
    operator.put(&app("shop"), json.into(), Expect::Absent, &asks(OperationKind::Deploy)).await.unwrap();
    let serves = |state: &State| {
        let world = World::read(state.clone());
        let records = world.apps.get("shop").map(|view| view.records.values());
        records
            .is_some_and(|mut all| all.len() == 2 && all.all(|record| record.value.phase == Phase::Serving))
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), changes.wait_for(serves)).await;
    assert!(waited.is_ok(), "{:?}", operator.status(&app("shop")));
    running.abort();
    applying.abort();
}

/// Prints how long a look at everything takes; what it asserts is that nothing is to be done.
#[tokio::test]
async fn a_thousand_instances_on_fifty_hosts_are_looked_at() {
    let (store, fleet) = (Store::new(1), Fleet::new(1, 1));
    let asked = Arc::new(AtomicU64::new(0));
    fill(&store);
    fleet.apply(&store.state());
    let counted = Arc::clone(&asked);
    let tools = Tools {
        registry: store.open(),
        hosts: Arc::new(fleet.clone()),
        gateways: Arc::new(fleet.clone()),
        prober: Arc::new(fleet),
        keys: None,
        meter: Arc::default(),
        clock: Arc::new(move || 1_000_000 + counted.fetch_add(1, Ordering::Relaxed)),
    };
    let mut engine = Engine::new(tools, Settings::default());
    assert!(matches!(store.state().link, Link::Connected { .. }));
    let before = store.state().revision;
    for _ in 0..3 {
        let began = Instant::now();
        engine.pass().await;
        println!("a look at 1,000 instances of 40 apps on 50 hosts: {:?}", began.elapsed());
    }
    // Forty claims, and nothing else.
    assert_eq!(store.state().revision - before, 40);
    place_a_hundred(&engine, &store);
}

fn place_a_hundred(engine: &Engine, store: &Store) {
    let mut seats = engine.parts.seats(&World::read(store.state()));
    let (app, placement) = (app("next"), crate::model::Placement::default());
    let resources = crate::model::Reservation { memory: 1 << 30, cpu: 100, ..Default::default() };
    let wish = scheduler::Wish { app: &app, resources, placement: &placement, avoid: &[], shunned_by: &[] };
    for seat in &mut seats {
        seat.reachable = true;
    }
    let began = Instant::now();
    for number in 0..100_u64 {
        let seating = scheduler::choose(&wish, &seats, number).unwrap();
        let seat = seats.iter_mut().find(|seat| seat.id == seating.host).unwrap();
        seat.take(format!("next/i{number}"), resources, seating.port);
    }
    println!("a placement beside them: {:?}", began.elapsed() / 100);
}

/// Forty apps of 25 instances each, all serving.
fn fill(store: &Store) {
    let mut ledgers: BTreeMap<String, Ledger> = BTreeMap::new();
    for at in 0..40 {
        let app = app(&format!("app-{at}"));
        let json = r#"{"versions": {"v1": {"command": ["a"]}}, "instances": 25}"#;
        store.put(keys::deployment(&app).as_str(), json);
        let deployment = crate::model::Deployment::parse(&keys::deployment(&app), json.as_bytes()).unwrap();
        let spec = deployment.wanted().unwrap().clone();
        let release = Release { version: deployment.version.clone(), config_generation: 0, spec };
        let digest = release.digest();
        let mut rollout =
            Rollout { status: Status::Completed, stable: Some(digest.clone()), ..Rollout::default() };
        rollout.target.clone_from(&rollout.stable);
        rollout.remember(&release);
        for number in 0..25_u16 {
            let id = InstanceId::parse(&format!("i{number}")).unwrap();
            let host = format!("h{}", (at * 25 + u32::from(number)) % 50);
            let port = 25_000 + u16::try_from(at).unwrap() * 25 + number;
            let record = Record {
                version: release.version.clone(),
                release: digest.clone(),
                host: HostId::parse(&host).unwrap(),
                address: ([10, 0, 0, 1], port).into(),
                phase: Phase::Serving,
                since: 0,
                step: 4,
                reason: None,
                resizing: None,
                told: BTreeMap::new(),
            };
            rollout.members.insert(id.to_string(), 4);
            store.put(&format!("service/address/{app}/v1/{id}"), "10.0.0.1:1");
            store.put(&format!("port/{host}/{port}"), &format!("{app}/{id}"));
            let text = record.to_value();
            store.put(keys::instance(&app, &id).as_str(), std::str::from_utf8(&text).unwrap());
            let share = Share { memory: 0, cpu: 0, port };
            ledgers.entry(host).or_default().given.insert(format!("{app}/{id}"), share);
        }
        let text = rollout.to_value();
        store.put(keys::rollout(&app).as_str(), std::str::from_utf8(&text).unwrap());
    }
    for (host, ledger) in ledgers {
        store.put(&format!("host/{host}"), r#"{"address": "10.0.0.1", "memory": "64GiB", "cpu": 32}"#);
        store.put(&format!("allocation/{host}"), std::str::from_utf8(&ledger.to_value()).unwrap());
    }
}
