use std::sync::Arc;

use serde_json::json;
use topology::AppId;

use super::*;
use crate::embedded::Embedded;
use crate::registry::{Expect, Lifetime, Registry};
use crate::secrets::{Keys, new_key};

/// Refuses one host, as a gateway refuses what it cannot serve.
struct Grumbler;

impl Judge for Grumbler {
    fn judge(&self, _: &EntryKey, parsed: &Parsed<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        if let Parsed::App(_, spec) = parsed
            && spec.hosts.iter().any(|host| host.to_string() == "refused.test")
        {
            verdict.mistakes.push(("hosts".to_owned(), "cannot be served".to_owned()));
        }
        verdict
    }
}

struct Bench {
    folder: tempfile::TempDir,
    registry: Arc<Embedded>,
    editor: Editor,
}

fn bench(sealed: bool) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let registry = Embedded::open(folder.path()).unwrap();
    let keys = sealed.then(|| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join("keys");
        std::fs::write(&path, new_key("k").unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Arc::new(Keys::open(&path).unwrap())
    });
    let editor = Editor::new(registry.clone(), keys, Arc::new(Grumbler));
    Bench { folder, registry, editor }
}

fn occasion() -> Occasion {
    Occasion { author: "alice".to_owned(), message: "why".to_owned(), time: 7 }
}

fn entry(text: &str) -> EntryKey {
    EntryKey::parse(text).unwrap()
}

fn put(key: &str, value: Value, precondition: Precondition) -> Edit {
    Edit { entry: entry(key), wanted: Wanted::Json(value), precondition }
}

fn hosts(host: &str) -> Value {
    json!({ "hosts": [host] })
}

impl Bench {
    async fn put(&self, key: &str, host: &str) -> Outcome {
        let edits = vec![put(key, hosts(host), Precondition::Any)];
        self.editor.change(edits, &occasion(), false).await.unwrap()
    }

    async fn value(&self, key: &str) -> Option<Value> {
        self.editor.read(&entry(key)).await.unwrap().map(|(value, _)| value.json())
    }
}

#[tokio::test]
async fn a_change_is_written_with_its_record_and_a_dry_run_is_not() {
    let bench = bench(false);
    let edits = || vec![put("app/shop", hosts("a.test"), Precondition::Absent)];
    let dry = bench.editor.change(edits(), &occasion(), true).await.unwrap();
    assert_eq!((dry.revision, dry.changes.len()), (None, 1));
    assert_eq!(bench.value("app/shop").await, None);

    let made = bench.editor.change(edits(), &occasion(), false).await.unwrap();
    assert_eq!((made.revision, &made.changes), (Some(1), &dry.changes));
    assert_eq!(bench.editor.read(&entry("app/shop")).await.unwrap().unwrap().1, made.version.unwrap());
    let record = bench.editor.record(1).await.unwrap().unwrap();
    assert_eq!((record.author, record.time, record.changes), ("alice".to_owned(), 7, made.changes));
    // What means the same is no change.
    assert_eq!(bench.put("app/shop", "a.test").await.revision, None);
    assert_eq!(bench.editor.state().head, 1);
}

#[tokio::test]
async fn preconditions_are_compared_with_what_the_registry_has() {
    let bench = bench(false);
    let version = bench.put("app/shop", "a.test").await.version.unwrap();
    let attempt = async |precondition| {
        bench.editor.change(vec![put("app/shop", hosts("b.test"), precondition)], &occasion(), false).await
    };
    for wrong in [Precondition::Absent, Precondition::Version(version + 1)] {
        match attempt(wrong).await {
            Err(ChangeError::Conflict { version: Some(told), .. }) => assert_eq!(told, version),
            other => panic!("{other:?}"),
        }
    }
    attempt(Precondition::Version(version)).await.unwrap();
    assert!(matches!(attempt(Precondition::Version(version)).await, Err(ChangeError::Conflict { .. })));
    attempt(Precondition::Present).await.unwrap();
}

#[tokio::test]
async fn all_mistakes_are_told_and_nothing_is_written() {
    let bench = bench(false);
    let edits = vec![
        put("app/good", hosts("a.test"), Precondition::Any),
        put("app/bad", json!({ "hostz": [], "balance": "dice" }), Precondition::Any),
        put("app/unserved", hosts("refused.test"), Precondition::Any),
        put("operator/shop/v1/c1", json!({ "state": "asleep" }), Precondition::Any),
        put("app/text", json!("plain"), Precondition::Any),
    ];
    let Err(ChangeError::Invalid(mistakes)) = bench.editor.change(edits, &occasion(), false).await else {
        panic!("it was taken");
    };
    let told: Vec<_> = mistakes.iter().map(|mistake| (&*mistake.source, &*mistake.key)).collect();
    for wanted in [
        ("app/bad", "hostz"),
        ("app/bad", "balance"),
        ("app/unserved", "hosts"),
        ("operator/shop/v1/c1", "state"),
        ("app/text", ""),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} in {told:?}");
    }
    assert!(bench.editor.state().entries.is_empty());
}

#[tokio::test]
async fn rolling_back_restores_what_a_revision_left_and_nobody_elses() {
    let bench = bench(false);
    bench.put("app/shop", "1.test").await;
    bench.put("app/blog", "1.test").await;
    bench.put("app/shop", "2.test").await;
    let gone = Edit { entry: entry("app/blog"), wanted: Wanted::Absent, precondition: Precondition::Present };
    bench.editor.change(vec![gone], &occasion(), false).await.unwrap();
    bench.put("app/new", "1.test").await;

    let shop = Scope::Apps(vec![AppId::parse("shop").unwrap()]);
    let dry = bench.editor.roll_back(2, &Scope::All, &occasion(), true).await.unwrap();
    let actions: Vec<_> =
        dry.changes.iter().map(|change| (change.entry.to_string(), change.action())).collect();
    let wanted = [("app/blog", "create"), ("app/new", "delete"), ("app/shop", "update")];
    assert_eq!(actions, wanted.map(|(key, action)| (key.to_owned(), action)));

    let back = bench.editor.roll_back(2, &shop, &occasion(), false).await.unwrap();
    assert_eq!((back.revision, back.changes.len()), (Some(6), 1));
    assert_eq!(bench.value("app/shop").await, Some(hosts("1.test")));
    assert_eq!(bench.value("app/blog").await, None);
    bench.editor.roll_back(2, &Scope::All, &occasion(), false).await.unwrap();
    assert_eq!(bench.value("app/blog").await, Some(hosts("1.test")));
    assert_eq!(bench.value("app/new").await, None);
    // A rollback is a change, and can be rolled back.
    bench.editor.roll_back(5, &Scope::All, &occasion(), false).await.unwrap();
    assert_eq!(bench.value("app/shop").await, Some(hosts("2.test")));
    assert_eq!(bench.editor.record(8).await.unwrap().unwrap().rolled_back_to, Some(5));
    for to in [9, u64::MAX] {
        let refused = bench.editor.roll_back(to, &Scope::All, &occasion(), false).await;
        assert!(matches!(refused, Err(ChangeError::Forgotten { .. })));
    }
    bench.editor.roll_back(0, &Scope::All, &occasion(), false).await.unwrap();
    assert_eq!(bench.editor.state().known().count(), 0);
}

#[tokio::test]
async fn what_was_changed_beside_the_history_is_told_of() {
    let bench = bench(false);
    bench.put("app/shop", "1.test").await;
    bench.put("app/shop", "2.test").await;
    let beside = hosts("beside.test").to_string();
    let key = entry("app/shop").key();
    bench.registry.write(&key, beside.into(), Expect::Any, Lifetime::Persistent).await.unwrap();
    let back = bench.editor.roll_back(1, &Scope::All, &occasion(), false).await.unwrap();
    assert_eq!(back.warnings.len(), 1, "{:?}", back.warnings);
    assert_eq!(bench.value("app/shop").await, Some(hosts("1.test")));
}

#[tokio::test]
async fn applying_prunes_only_kinds_that_are_named_and_only_in_scope() {
    let bench = bench(false);
    bench.put("app/shop", "1.test").await;
    bench.put("app/blog", "1.test").await;
    let word = vec![put("operator/shop/v1/c1", json!({ "state": "drain" }), Precondition::Any)];
    bench.editor.change(word, &occasion(), false).await.unwrap();
    let wanted = || [(entry("app/new"), Wanted::Json(hosts("new.test")))].into();
    let blog = Scope::Apps(["blog", "new"].map(|id| AppId::parse(id).unwrap()).into());
    let tag = bench.editor.state().tag();
    let made = bench.editor.apply(wanted(), Some(&blog), Some(&tag), &occasion(), false).await.unwrap();
    assert_eq!(made.changes.len(), 2);
    let stale = bench.editor.apply(wanted(), None, Some(&tag), &occasion(), false).await;
    assert!(matches!(stale, Err(ChangeError::Stale { .. })), "{stale:?}");
    bench.editor.apply(wanted(), Some(&Scope::All), None, &occasion(), false).await.unwrap();
    let left: Vec<_> = bench.editor.state().known().map(|(entry, _)| entry.to_string()).collect();
    assert_eq!(left, ["app/new", "operator/shop/v1/c1"]);
}

#[tokio::test]
async fn of_changes_at_once_each_is_recorded_and_none_is_lost() {
    let bench = bench(false);
    let changes = (0..8).map(|n| {
        let (editor, id) = (&bench.editor, format!("app/a{n}"));
        async move {
            editor.change(vec![put(&id, hosts("a.test"), Precondition::Absent)], &occasion(), false).await
        }
    });
    let mut revisions: Vec<_> = futures::future::join_all(changes)
        .await
        .into_iter()
        .map(|outcome| outcome.unwrap().revision.unwrap())
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=8).collect::<Vec<_>>());
    assert_eq!(bench.editor.records().len(), 8);
}

#[tokio::test]
async fn with_keys_the_history_tells_nothing_in_clear() {
    let bench = bench(true);
    bench.put("app/shop", "in-clear.test").await;
    let edit = Edit {
        entry: entry("app/shop"),
        wanted: Wanted::Seal(hosts("hidden.test")),
        precondition: Precondition::Any,
    };
    let made = bench.editor.change(vec![edit], &occasion(), false).await.unwrap();
    assert!(!format!("{:?}", made.changes[0].differences()).contains("hidden"));
    let entries = bench.editor.state().entries;
    assert!(crate::secrets::is_sealed(&entries[&entry("app/shop").key()].value));
    for (_, key, record) in history::kept(&entries) {
        let text = String::from_utf8_lossy(&record.value);
        assert!(!text.contains("clear") && !text.contains("alice"), "{key}: {text}");
    }
    // The value itself goes back and still opens.
    bench.editor.roll_back(0, &Scope::All, &occasion(), false).await.unwrap();
    bench.editor.roll_back(2, &Scope::All, &occasion(), false).await.unwrap();
    assert!(bench.value("app/shop").await.unwrap().as_str().unwrap().starts_with("sluice-sealed:"));
    // What is wrong in it is not told.
    let edit = Edit {
        entry: entry("app/shop"),
        wanted: Wanted::Seal(json!({ "balance": "secret-word" })),
        precondition: Precondition::Any,
    };
    let refused = bench.editor.change(vec![edit], &occasion(), false).await.unwrap_err();
    assert!(refused.to_string().contains("balance") && !refused.to_string().contains("secret-word"));
    drop(bench.folder);
}

#[tokio::test]
async fn what_is_too_large_for_one_transaction_is_refused_whole() {
    let bench = bench(false);
    let large =
        || json!({ "hosts": ["a.test"], "filters": { "error_pages": { "text": "x".repeat(1_900) } } });
    let edits: Vec<_> =
        (0..MAX_EDITS + 1).map(|n| put(&format!("app/a{n}"), large(), Precondition::Any)).collect();
    let refused = bench.editor.change(edits, &occasion(), false).await;
    assert!(matches!(refused, Err(ChangeError::TooMany(101))));
    let text: Vec<_> = (0..1_000).map(|n| format!("host-{n}.{}.test", "x".repeat(50))).collect();
    let wide = json!({ "hosts": text });
    let edits: Vec<_> = (0..10).map(|n| put(&format!("app/a{n}"), wide.clone(), Precondition::Any)).collect();
    let refused = bench.editor.change(edits, &occasion(), false).await;
    assert!(matches!(refused, Err(ChangeError::TooLarge { .. })), "{refused:?}");
    assert!(bench.editor.state().entries.is_empty());
}
