//! What cannot work ends in a clear state, says why, and harms nobody else.

use serde_json::Value;

use crate::stage::{Stage, file};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// v1 serves; v2 is this.
fn second(spec: &str) -> String {
    let whole = file("v2", "");
    let at = whole.find("[versions.v2]").expect("it has a second version");
    format!("{}[versions.v2]\n{spec}\n", &whole[..at])
}

#[track_caller]
fn gives_up(spec: &str, why: &str) {
    let stage = Stage::new();
    stage.write(&file("v1", ""));
    stage.deploy();
    let before = stage.open("shop");
    stage.write(&second(spec));
    let said = stage.shown(3, &["deploy", stage.folder(), "--wait"]);
    assert!(said.contains(why), "{said}");
    let status = stage.status("shop");
    assert_eq!((text(&status["standing"]), text(&status["rollout"]["status"])), ("given_up", "rolled_back"));
    assert_eq!(stage.open("shop"), before, "what served serves on");
}

#[test]
fn a_command_that_ends_at_once_is_given_up() {
    gives_up("command = [\"/bin/sh\", \"-c\", \"exit 3\"]", "ended with code 3");
}

#[test]
fn a_command_that_is_none_is_given_up() {
    gives_up("command = [\"/nowhere/to/be/found\"]", "/nowhere/to/be/found");
}

#[test]
fn one_that_never_passes_its_probe_is_given_up() {
    gives_up(
        "command = [\"/bin/sleep\", \"600\"]\nprobe = { interval = \"200ms\", timeout = \"200ms\", deadline = \"1s\" }",
        "did not pass its probes within 1s",
    );
}

#[test]
fn a_full_host_says_what_is_missing_and_other_apps_go_on() {
    let stage = Stage::with("memory = \"64MiB\"\ncpu = 1\n");
    stage.write(&file("v1", ""));
    stage.deploy();
    let large = second("command = [\"/bin/sleep\", \"600\"]\nresources = { memory = \"1GiB\" }")
        .replace("id = \"shop\"", "id = \"large\"")
        .replace("[versions.v1]", "[rollout]\nprogress_deadline = \"2s\"\n[versions.v1]");
    stage.write(&large);
    let said = stage.shown(3, &["deploy", stage.folder(), "--dry-run"]);
    assert!(said.contains("memory"), "{said}");
    let said = stage.shown(3, &["deploy", stage.folder(), "--wait"]);
    assert!(said.contains("none of 1 hosts will do (memory 1)"), "{said}");
    assert!(stage.open("shop").starts_with("v1 "));
}

#[test]
fn mistakes_have_their_lines_and_nothing_is_written() {
    let stage = Stage::new();
    stage.write("id = \"shop\"\ninstanzes = 2\n[versions.v1]\ncommand = []\n");
    let said = stage.shown(1, &["deploy", stage.folder()]);
    assert!(said.contains("sluice.toml:2: instanzes: unknown key; did you mean \"instances\"?"), "{said}");
    assert!(said.contains("sluice.toml:4: versions.v1.command"), "{said}");
    assert!(stage.json(0, &["apps"])["items"].as_array().is_some_and(Vec::is_empty));
    stage.shown(1, &["rollout", "pause", "shop"]);
    stage.shown(1, &["scale", "shop", "2"]);
    stage.shown(1, &["logs", "shop"]);
}
