//! What is asked for, and what is remembered of it.

use super::*;
use crate::model::Repeat;

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
