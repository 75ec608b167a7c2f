//! What fails its probes while it serves.

use super::*;

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
