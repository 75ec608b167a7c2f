//! Values that go in and never come out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use tests::{Config, finish, sluice};

use crate::api::ask;
use crate::stage::{PATIENCE, Stage};

const SECRET: &str = "correct-horse-battery";

/// `sluice config set`, with this on its standard input.
fn set(stage: &Stage, name: &str, value: &str, wait: bool) -> String {
    let mut command: Command = sluice();
    command
        .args(["config", "set", "shop", name])
        .env("SLUICE_DEPLOY", format!("http://{}", stage.gateway.deploy()));
    if wait {
        command.arg("--wait");
    }
    let finished = finish(&mut command, value, PATIENCE);
    assert_eq!(finished.code, Some(0), "{}", finished.text());
    finished.text()
}

/// What an instance finds of it, by its own word.
fn found(stage: &Stage) -> String {
    let lines = stage.shown(0, &["logs", "shop"]);
    lines.lines().rfind(|line| line.contains("found ")).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_configuration_is_sealed_injected_and_rolls_its_app() {
    let key = finish(sluice().args(["secret", "new-key", "one"]), "", PATIENCE);
    assert_eq!(key.code, Some(0), "{}", key.text());
    let folder = tempfile::tempdir().expect("a folder can be made");
    let keys = folder.path().join("keys");
    fs::write(&keys, &key.stdout).expect("the folder is ours");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let stage = Stage::on(
        Config::new().registry(&format!(
            "kind = \"embedded\"\npath = \"registry\"\nkey_file = \"{}\"\n",
            keys.display()
        )),
        "",
    );
    // Before there is an app.
    set(&stage, "db.password", &format!("{SECRET}-1\n"), false);
    fs::write(stage.project.path().join("tls.key"), "-----KEY\n").expect("the folder is ours");
    stage.shown(0, &["config", "set", "shop", "tls.key", "--file", "tls.key"]);
    stage.write(
        "id = \"shop\"\n[versions.v1]\nprobe = { kind = \"none\" }\n\
         command = [\"/bin/sh\", \"-c\", \"echo found $DB_PASSWORD $(cat $SLUICE_FILES/etc/shop/tls.key); exec sleep 600\"]\n\
         secrets = { DB_PASSWORD = \"db.password\" }\nfiles = { \"/etc/shop/tls.key\" = \"tls.key\" }\n",
    );
    stage.deploy();
    let first = stage.instances("shop")[0]["instance"].clone();
    assert_eq!(found(&stage), format!("found {SECRET}-1 -----KEY"));
    let said = set(&stage, "db.password", &format!("{SECRET}-2\n"), true);
    assert!(said.contains("db.password is set") && !said.contains(SECRET), "{said}");
    assert_ne!(stage.instances("shop")[0]["instance"], first, "it was rolled");
    assert_eq!(found(&stage), format!("found {SECRET}-2 -----KEY"));

    let listed = stage.shown(0, &["config", "ls", "shop"]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["db.password", "tls.key"]);
    let said = stage.shown(1, &["config", "unset", "shop", "db.password"]);
    assert!(said.contains("is in use: secrets.DB_PASSWORD"), "{said}");
    let api = stage.gateway.deploy();
    let refused =
        ask(api, "PATCH", "/v1/apps/shop/config", &[], Some(&json!({ "a": { "b": SECRET } }))).expect(400);
    assert!(!refused.text.contains(SECRET), "{}", refused.text);
    for target in ["/v1/apps/shop", "/v1/apps/shop/config", "/v1/apps/shop/operations", "/v1/instances"] {
        let shown = ask(api, "GET", target, &[], None).expect(200);
        assert!(!shown.text.contains(SECRET), "{target}: {}", shown.text);
    }
    assert!(!stage.gateway.output().contains(SECRET), "the log tells it");
    assert!(!told(stage.gateway.folder()), "it stands on disk");
}

/// Whether any file below says it.
fn told(folder: &std::path::Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| match entry.path() {
        path if path.is_dir() && path.file_name().is_some_and(|name| name != "instances") => told(&path),
        path => {
            fs::read(&path).is_ok_and(|text| text.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()))
        }
    })
}
