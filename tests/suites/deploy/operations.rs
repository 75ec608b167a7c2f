//! What is asked of an app has a name, can be waited for, and may be asked again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{DEADLINE, eventually, finish};

use crate::api::{Answer, ask};
use crate::stage::{Stage, file};

/// Of each operation and phase.
const EXAMPLES: &str = "20";
/// So that a failure can be had again.
const SEED: &str = "20261126";
/// For all of it, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

fn wait(api: SocketAddr, answer: &Answer) -> Answer {
    let operation = answer.text_of("operation").to_owned();
    assert!(!operation.is_empty(), "{}", answer.text);
    let target = format!("/v1/apps/shop/operations/{operation}?wait=200");
    eventually(PATIENCE, "the operation is over", || {
        ask(api, "GET", &target, &[], None).json["settled"] == true
    });
    ask(api, "GET", &target, &[], None).expect(200)
}

#[test]
fn the_same_request_is_done_once_also_after_a_restart() {
    let mut stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let scale = |stage: &Stage, key: &str, instances: u32| {
        let key = format!("Idempotency-Key: \"{key}\"");
        let body = json!({ "instances": instances });
        ask(stage.gateway.deploy(), "POST", "/v1/apps/shop/scale", &[&key], Some(&body))
    };
    let first = scale(&stage, "a", 2).expect(200);
    let done = wait(stage.gateway.deploy(), &first);
    assert_eq!((done.text_of("state"), done.text_of("kind")), ("done", "scale"), "{}", done.text);
    // Somebody else scales meanwhile; the former request, asked again, does not scale back.
    let second = scale(&stage, "b", 1).expect(200);
    assert_eq!(wait(stage.gateway.deploy(), &second).text_of("state"), "done");
    stage.restart();
    eventually(DEADLINE, "the next process has read the registry", || stage.status("shop")["wanted"] == 1);
    let again = scale(&stage, "a", 2).expect(200);
    assert_eq!(again.text_of("operation"), first.text_of("operation"));
    assert!(again.json["etag"].is_null(), "what it wanted is not wanted any more: {}", again.text);
    assert_eq!(stage.status("shop")["wanted"], 1);
    let reused = scale(&stage, "a", 3).expect(422);
    assert_eq!(reused.text_of("type"), "urn:sluice:key-reused");
    assert!(reused.text.contains(first.text_of("operation")), "{}", reused.text);
    let known = ask(stage.gateway.deploy(), "GET", "/v1/apps/shop/operations", &[], None).expect(200);
    let kinds: Vec<_> =
        known.json["items"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["scale", "scale", "deploy"]);
}

#[test]
fn what_is_given_up_and_what_goes_is_told_by_its_operation() {
    let stage = Stage::new();
    let api = stage.gateway.deploy();
    let spec = json!({ "versions": { "v1": { "command": ["/bin/sh", "-c", "exit 3"] } } });
    let answer = ask(api, "PUT", "/v1/apps/shop", &[], Some(&spec)).expect(201);
    let ended = wait(api, &answer);
    assert_eq!(ended.text_of("state"), "failed", "{}", ended.text);
    assert!(ended.text_of("reason").contains("ended with code 3"), "{}", ended.text);
    let answer = ask(api, "DELETE", "/v1/apps/shop", &["Idempotency-Key: gone"], None).expect(202);
    assert_eq!(wait(api, &answer).text_of("state"), "done");
    let again = ask(api, "DELETE", "/v1/apps/shop", &["Idempotency-Key: gone"], None).expect(202);
    assert_eq!(again.text_of("operation"), answer.text_of("operation"));
    ask(api, "DELETE", "/v1/apps/shop", &[], None).expect(404);
}

#[test]
fn whoever_has_changed_an_app_is_shown_nothing_older() {
    let stage = Stage::new();
    let api = stage.gateway.deploy();
    stage.write(&file("v1", ""));
    stage.deploy();
    let status =
        |after: u64| ask(api, "GET", &format!("/v1/apps/shop/status?wait=1&after={after}"), &[], None);
    let answers = [
        ask(api, "POST", "/v1/apps/shop/scale", &[], Some(&json!({ "instances": 2 }))).expect(200),
        ask(api, "POST", "/v1/apps/shop/rollout", &[], Some(&json!({ "action": "undo", "to": "v1" })))
            .expect(200),
        ask(api, "DELETE", "/v1/apps/shop", &[], None).expect(202),
    ];
    let revisions =
        answers.each_ref().map(|answer| answer.json["revision"].as_u64().expect("it was written"));
    assert!(revisions.is_sorted_by(|one, next| one < next), "{revisions:?}");
    let last = revisions[2];
    eventually(DEADLINE, "nothing is left of it", || {
        let shown = status(last);
        assert!(shown.status == 404 || shown.json["version"].is_null(), "{}", shown.text);
        shown.status == 404
    });
    // What this process has not seen says nothing of the app.
    let behind = status(last + 1_000).expect(409);
    assert_eq!(behind.text_of("type"), "urn:sluice:behind");
    assert!(behind.text.contains(&(last + 1_000).to_string()), "{}", behind.text);
    ask(api, "GET", "/v1/apps/shop/status?after=-1", &[], None).expect(400);
}

#[test]
fn the_copy_in_the_docs_is_what_a_deploy_api_serves() {
    let stage = Stage::new();
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi-deploy.json");
    let copy = std::fs::read_to_string(copy).expect("it is there");
    assert_eq!(ask(stage.gateway.deploy(), "GET", "/v1/openapi.json", &[], None).expect(200).text, copy);
}

/// Where `scripts/install-test-deps` puts it.
fn schemathesis() -> PathBuf {
    let place = std::env::var_os("SLUICE_SCHEMATHESIS").map(PathBuf::from);
    place.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-deps/schemathesis/bin/schemathesis")
    })
}

#[test]
fn generated_requests_find_no_answer_that_is_not_described() {
    let program = schemathesis();
    assert!(program.is_file(), "no {}: run scripts/install-test-deps", program.display());
    let stage = Stage::new();
    let mut command = Command::new(program);
    command
        .current_dir(stage.gateway.folder())
        .args(["run", &format!("http://{}/v1/openapi.json", stage.gateway.deploy())])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink", "--workers", "1"])
        .args(["--request-timeout", "10", "--suppress-health-check", "all", "--warnings", "off"])
        // What an app's file may say is more than its schema says: what is none is refused with 422.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // It goes on for as long as somebody listens.
        .args(["--exclude-path", "/v1/events"])
        .args(["--continue-on-failure"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let report = finish(&mut command, "", PATIENCE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    ask(stage.gateway.deploy(), "GET", "/ready", &[], None).expect(200);
}
