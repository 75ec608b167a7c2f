use std::sync::Arc;

use bytes::Bytes;

use super::Embedded;
use crate::registry::{Expect, Key, Lifetime, Registry, RegistryError};

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[test]
fn a_directory_that_is_open_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(dir.path()).unwrap();
    let error = Embedded::open(dir.path()).err().expect("open twice");
    assert!(matches!(error, RegistryError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&dir.path().display().to_string()));
    drop(first);
    Embedded::open(dir.path()).unwrap();
}

#[test]
fn a_file_that_is_no_registry_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.redb");
    std::fs::write(&file, b"notes on something else, long enough to be looked at").unwrap();
    let error = Embedded::open(dir.path()).err().expect("a foreign file");
    assert!(matches!(error, RegistryError::Failed { may_have_happened: false, .. }), "{error:?}");
    assert!(std::fs::read(&file).unwrap().starts_with(b"notes"));
}

#[tokio::test]
async fn revisions_versions_and_values_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Embedded::open(dir.path()).unwrap();
    let created =
        registry.write(&key("app/shop"), "1".into(), Expect::Absent, Lifetime::Persistent).await.unwrap();
    let version = registry
        .write(&key("app/shop"), "2".into(), Expect::Version(created), Lifetime::Persistent)
        .await
        .unwrap();
    let before = registry.watch().borrow().clone();
    drop(registry);

    let registry = Embedded::open(dir.path()).unwrap();
    let after = registry.watch().borrow().clone();
    assert_eq!(after.revision, before.revision);
    assert_eq!(after.entries, before.entries);
    let entry = &after.entries[&key("app/shop")];
    assert_eq!((entry.version, entry.created, &entry.value[..]), (version, created, &b"2"[..]));
}

#[tokio::test]
async fn writers_that_wait_together_are_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Embedded::open(dir.path()).unwrap();
    let mut state = registry.watch();
    let publications = tokio::spawn(async move {
        let mut count = 0_u32;
        while state.changed().await.is_ok() {
            count += 1;
        }
        count
    });
    let writes = (0..1_000).map(|n| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let key = key(&format!("app/a{n}"));
            registry.write(&key, Bytes::from_static(b"x"), Expect::Absent, Lifetime::Persistent).await
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert_eq!(registry.watch().borrow().revision, 1_000);
    drop(registry);
    let publications = publications.await.unwrap();
    assert!(publications < 500, "{publications} commits for 1000 writers");
}

#[tokio::test]
async fn a_released_registry_is_another_ones_until_it_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Embedded::open(dir.path()).unwrap();
    let write = |registry: &Arc<Embedded>, name: &str, lifetime| {
        let (registry, key) = (registry.clone(), key(name));
        async move { registry.write(&key, "1".into(), Expect::Any, lifetime).await }
    };
    write(&registry, "app/ours", Lifetime::Persistent).await.unwrap();
    write(&registry, "app/session", Lifetime::Session).await.unwrap();
    let watch = registry.watch();
    registry.release().await.unwrap();
    registry.release().await.unwrap();
    // What was known is still known; nothing can be added.
    assert!(!watch.borrow().link.is_connected());
    assert_eq!(watch.borrow().entries.len(), 2);
    let refused = write(&registry, "app/late", Lifetime::Persistent).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Failed { may_have_happened: false, .. }), "{refused:?}");

    let other = Embedded::open(dir.path()).unwrap();
    write(&other, "app/theirs", Lifetime::Persistent).await.unwrap();
    let in_use = registry.reopen().await.unwrap_err();
    assert!(matches!(in_use, RegistryError::InUse { .. }), "{in_use:?}");
    drop(other);

    registry.reopen().await.unwrap();
    registry.reopen().await.unwrap();
    assert!(watch.borrow().link.is_connected());
    // A session that was let go of is over.
    let keys: Vec<_> = watch.borrow().entries.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["app/ours", "app/theirs"]);
    write(&registry, "app/again", Lifetime::Persistent).await.unwrap();
}
