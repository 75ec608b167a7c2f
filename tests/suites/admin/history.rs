//! What was changed is kept, and can be undone.

use serde_json::{Value, json};
use tests::{Config, DEADLINE, Gateway, eventually, finish, sluice};

use crate::api::Api;

fn hosts(host: &str) -> Value {
    json!({ "hosts": [host] })
}

#[test]
fn every_change_is_kept_with_who_when_why_and_what() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    api.put("/v1/config/apps/shop?message=opening", &hosts("a.test")).expect(201);
    api.put("/v1/config/apps/blog", &hosts("blog.test")).expect(201);
    api.put("/v1/config/apps/shop?message=moved", &hosts("b.test")).expect(200);
    let records = api.get("/v1/history").expect(200).json;
    let told: Vec<_> =
        records["records"].as_array().unwrap().iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    assert_eq!(told, [3, 2, 1]);
    let newest = &records["records"][0];
    assert_eq!((&newest["author"], &newest["message"]), (&json!("loopback"), &json!("moved")));
    assert!(newest["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(newest["changes"], json!([{ "key": "app/shop", "action": "update" }]));
    let of_shop = api.get("/v1/history?app=shop&limit=1").expect(200).json;
    assert_eq!(of_shop["records"].as_array().unwrap().len(), 1);
    let whole = api.get("/v1/history/3").expect(200).json;
    assert_eq!(whole["changes"][0]["before"], hosts("a.test"));
    assert_eq!(whole["changes"][0]["after"], hosts("b.test"));
    assert_eq!(
        whole["changes"][0]["diff"],
        json!([{ "path": "hosts[0]", "before": "a.test", "after": "b.test" }])
    );
    api.get("/v1/history/4").expect(404);
    api.get("/v1/history/x").expect(400);
    api.get("/v1/history?limit=0").expect(400);
}

#[test]
fn a_rollback_is_a_change_that_can_be_tried_and_undone() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    api.put("/v1/config/apps/shop", &hosts("a.test")).expect(201);
    api.put("/v1/config/apps/shop", &hosts("b.test")).expect(200);
    api.delete("/v1/config/apps/shop").expect(200);
    let dry = api.post("/v1/rollback", &json!({ "to": 1, "dry_run": true })).expect(200);
    assert_eq!((&dry.json["changes"][0]["action"], dry.json["revision"].as_u64()), (&json!("create"), None));
    api.get("/v1/config/apps/shop").expect(404);

    let back = api.post("/v1/rollback", &json!({ "to": 1, "message": "too early" })).expect(200);
    assert_eq!(back.json["revision"], 4);
    assert_eq!(api.get("/v1/config/apps/shop").json["value"], hosts("a.test"));
    assert_eq!(api.get("/v1/history/4").json["rolled_back_to"], 1);
    eventually(DEADLINE, "requests follow", || gateway.get("a.test", "/").status == 503);
    api.post("/v1/rollback", &json!({ "to": 2 })).expect(200);
    assert_eq!(api.get("/v1/config/apps/shop").json["value"], hosts("b.test"));
    let refused = api.post("/v1/rollback", &json!({ "to": 9 })).expect(404);
    assert!(refused.text.contains("write one from 0 to 5"), "{}", refused.text);
}

#[test]
fn the_history_outlives_the_process_and_is_bounded() {
    let mut gateway = Gateway::start(&Config::new().handover());
    let api = Api::of(&gateway);
    for n in 0..260 {
        let status = api.put("/v1/config/apps/shop", &hosts(&format!("h{n}.test"))).status;
        assert!(matches!(status, 200 | 201), "{status}");
    }
    drop(gateway.hand_over());
    let api = Api::of(&gateway);
    let kept = api.get("/v1/history?limit=256").expect(200).json;
    let kept = kept["records"].as_array().unwrap();
    assert_eq!((kept.len(), &kept[0]["revision"], &kept[255]["revision"]), (256, &json!(260), &json!(5)));
    api.get("/v1/history/4").expect(404);
    let refused = api.post("/v1/rollback", &json!({ "to": 3 })).expect(404);
    assert!(refused.text.contains("write one from 4 to 260"), "{}", refused.text);
    api.post("/v1/rollback", &json!({ "to": 4 })).expect(200);
    assert_eq!(api.get("/v1/config/apps/shop").json["value"], hosts("h3.test"));
}

#[test]
fn with_a_key_file_neither_values_nor_history_are_in_the_registry_in_clear() {
    let key = finish(sluice().args(["secret", "new-key", "k"]), "", DEADLINE).stdout;
    let config = Config::new().registry("kind = \"embedded\"\npath = \"registry\"\nkey_file = \"keys\"\n");
    let gateway = Gateway::start_as(&config.file("keys", &key), |command| {
        // Keys are read only from files that nobody else can read.
        use std::os::unix::fs::PermissionsExt as _;
        let config = std::path::PathBuf::from(command.get_args().last().expect("it names its configuration"));
        let owners = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(config.with_file_name("keys"), owners).expect("the file is ours");
        command
    });
    let api = Api::of(&gateway);
    api.put("/v1/config/apps/shop", &hosts("in-clear.test")).expect(201);
    let sealed = api.put("/v1/config/apps/shop?seal=true", &hosts("hidden.test")).expect(200);
    assert!(!sealed.text.contains("hidden"), "{}", sealed.text);
    let shown = api.get("/v1/config/apps/shop").expect(200);
    assert!(shown.json["value"].as_str().unwrap().starts_with("sluice-sealed:"), "{}", shown.text);
    eventually(DEADLINE, "it serves", || gateway.get("hidden.test", "/").status == 503);
    let whole = api.get("/v1/history/2").expect(200);
    assert!(!whole.text.contains("hidden"), "{}", whole.text);
    // Sealed again as it was shown it is no change.
    let same = api.put("/v1/config/apps/shop", &shown.json["value"]).expect(200);
    assert_eq!(same.json["revision"], Value::Null);
    // What the disk has.
    let file = std::fs::read(gateway.folder().join("registry/registry.redb")).unwrap();
    assert!(!tests::contains(&file, b"hidden.test"));
    assert!(!tests::contains(&file, b"\"author\""), "records are sealed");
}
