//! What becomes of an app, told by its end. Virtual time, and nobody is killed here: see `simulation`.

mod asked;
mod health;
mod limits;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use discovery::embedded::Embedded;
use discovery::registry::Link;
use topology::HostId;

use super::simulation::Stage;
use super::simulation::fleet::Fleet;
use super::simulation::registry::Store;
use super::*;
use crate::model::{Ledger, OperationKind, Phase, Record, Release, Rollout, Share, Status};
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

fn sealing_keys(folder: &std::path::Path) -> Arc<Keys> {
    use std::os::unix::fs::PermissionsExt;

    let path = folder.join("keys");
    std::fs::write(&path, discovery::secrets::new_key("a").unwrap()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Arc::new(Keys::open(&path).unwrap())
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
