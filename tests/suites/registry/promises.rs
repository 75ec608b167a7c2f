//! What the trait promises, whoever implements it.

use std::collections::BTreeSet;

use bytes::Bytes;
use discovery::registry::{
    Expect, Key, Lifetime, MAX_STEPS, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, RegistryError, Step,
};

use crate::fixture::{
    EmbeddedFixture, EtcdFixture, Fixture, ZooKeeperFixture, await_state, await_value, contents, is_conflict,
    key, read, run, state, write, write_for_session,
};

macro_rules! promises {
    ($($name:ident,)*) => {
        mod embedded {
            $(#[test] fn $name() { super::$name(&mut super::EmbeddedFixture::new()); })*
        }
        mod zookeeper {
            $(#[test] fn $name() { super::$name(&mut super::ZooKeeperFixture::new()); })*
        }
        mod etcd {
            $(#[test] fn $name() { super::$name(&mut super::EtcdFixture::new()); })*
        }
    };
}

promises! {
    a_watcher_sees_the_whole_state_and_each_change_after_it,
    a_write_whose_condition_fails_changes_nothing,
    a_version_is_never_used_again,
    of_two_writers_with_the_same_expectation_one_wins,
    a_session_key_goes_with_its_session,
    a_session_key_that_is_made_persistent_stays,
    revisions_grow_and_cover_what_was_acknowledged,
    what_no_registry_keeps_is_refused,
    a_key_may_have_keys_below_it,
    two_thousand_keys_arrive_complete,
    several_keys_change_together_or_not_at_all,
    the_largest_transaction_is_taken_and_a_larger_one_refused,
    a_transaction_ends_registrations,
}

fn a_watcher_sees_the_whole_state_and_each_change_after_it(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    write(registry, "app/shop", "1", Expect::Any).unwrap();
    write(registry, "app/blog", "1", Expect::Any).unwrap();
    let other = fixture.another();
    await_state(&*other, "the whole state", |state| state.entries.len() == 2);
    assert!(state(&*other).link.is_connected());

    write(registry, "service/address/shop/v1/c1", "10.0.0.1:80", Expect::Any).unwrap();
    await_value(&*other, "service/address/shop/v1/c1", Some("10.0.0.1:80"));
    write(registry, "app/shop", "2", Expect::Any).unwrap();
    await_value(&*other, "app/shop", Some("2"));
    run(registry.delete(&key("app/blog"), Expect::Any)).unwrap();
    await_value(&*other, "app/blog", None);

    let wanted = [("app/shop", "2"), ("service/address/shop/v1/c1", "10.0.0.1:80")];
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(contents(&state(&*other)), wanted);
}

fn a_write_whose_condition_fails_changes_nothing(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    assert!(is_conflict(&write(registry, "app/shop", "x", Expect::Version(1))));
    let first = write(registry, "app/shop", "1", Expect::Absent).unwrap();
    assert!(is_conflict(&write(registry, "app/shop", "x", Expect::Absent)));
    let second = write(registry, "app/shop", "2", Expect::Version(first)).unwrap();
    assert!(second > first);
    assert!(is_conflict(&write(registry, "app/shop", "x", Expect::Version(first))));
    assert!(is_conflict(&run(registry.delete(&key("app/shop"), Expect::Version(first)))));
    assert!(is_conflict(&run(registry.delete(&key("app/shop"), Expect::Absent))));

    let entry = read(registry, "app/shop").unwrap();
    assert_eq!((&entry.value[..], entry.version, entry.created), (&b"2"[..], second, first));
    run(registry.delete(&key("app/shop"), Expect::Version(second))).unwrap();
    assert_eq!(read(registry, "app/shop"), None);
    run(registry.delete(&key("app/shop"), Expect::Any)).unwrap();
    run(registry.delete(&key("app/shop"), Expect::Absent)).unwrap();
    assert!(is_conflict(&run(registry.delete(&key("app/shop"), Expect::Version(second)))));
}

fn a_version_is_never_used_again(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    let old = write(registry, "app/shop", "1", Expect::Absent).unwrap();
    run(registry.delete(&key("app/shop"), Expect::Version(old))).unwrap();
    let new = write(registry, "app/shop", "1", Expect::Absent).unwrap();
    assert!(new > old);
    assert!(is_conflict(&write(registry, "app/shop", "x", Expect::Version(old))));
    assert_eq!(read(registry, "app/shop").unwrap().created, new);
}

fn of_two_writers_with_the_same_expectation_one_wins(fixture: &mut dyn Fixture) {
    let (left, right) = (fixture.registry(), fixture.another());
    let mut version = write(&**left, "vip/10.0.0.200", "start", Expect::Absent).unwrap();
    for _ in 0..20 {
        let key = key("vip/10.0.0.200");
        let expect = Expect::Version(version);
        let (first, second) = run(async {
            tokio::join!(
                left.write(&key, "left".into(), expect, Lifetime::Persistent),
                right.write(&key, "right".into(), expect, Lifetime::Persistent),
            )
        });
        let winner = match (&first, &second) {
            (Ok(new), lost) if is_conflict(lost) => ("left", *new),
            (lost, Ok(new)) if is_conflict(lost) => ("right", *new),
            both => panic!("{both:?}"),
        };
        let entry = read(&*right, "vip/10.0.0.200").unwrap();
        assert_eq!((&entry.value[..], entry.version), (winner.0.as_bytes(), winner.1));
        version = winner.1;
    }
}

fn a_session_key_goes_with_its_session(fixture: &mut dyn Fixture) {
    write_for_session(&**fixture.registry(), "gateway/gw-1", "here").unwrap();
    write(&**fixture.registry(), "app/shop", "1", Expect::Any).unwrap();
    let entry = read(&**fixture.registry(), "gateway/gw-1").unwrap();
    assert!(entry.ephemeral);
    fixture.renew_session();
    let registry = &**fixture.registry();
    await_value(registry, "gateway/gw-1", None);
    await_value(registry, "app/shop", Some("1"));
    write_for_session(registry, "gateway/gw-1", "again").unwrap();
    await_value(registry, "gateway/gw-1", Some("again"));
}

fn a_session_key_that_is_made_persistent_stays(fixture: &mut dyn Fixture) {
    write_for_session(&**fixture.registry(), "app/shop", "1").unwrap();
    write(&**fixture.registry(), "app/shop", "2", Expect::Any).unwrap();
    write(&**fixture.registry(), "app/blog", "1", Expect::Any).unwrap();
    write_for_session(&**fixture.registry(), "app/blog", "2").unwrap();
    fixture.renew_session();
    await_value(&**fixture.registry(), "app/blog", None);
    let entry = read(&**fixture.registry(), "app/shop").unwrap();
    assert_eq!((&entry.value[..], entry.ephemeral), (&b"2"[..], false));
}

fn revisions_grow_and_cover_what_was_acknowledged(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    for n in 0..20 {
        let path = format!("app/a{n}");
        let version = write(registry, &path, "1", Expect::Any).unwrap();
        await_state(registry, "the revision of the write", |state| state.revision >= version);
        assert_eq!(state(registry).entries[&key(&path)].version, version, "in the state of that revision");
    }
    let before = state(registry).revision;
    run(registry.delete(&key("app/a0"), Expect::Any)).unwrap();
    await_state(registry, "a revision of the deletion", |state| state.revision > before);
    assert!(!state(registry).entries.contains_key(&key("app/a0")));
}

fn what_no_registry_keeps_is_refused(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    for bad in ["", "/app", "app/", "a//b", "a/../b", "a/./b", "a\0b", "a\nb", "\u{f000}"] {
        assert!(matches!(Key::parse(bad), Err(RegistryError::BadKey(_))), "{bad:?}");
    }
    let put = |length: usize| {
        let value = Bytes::from(vec![b'x'; length]);
        run(registry.write(&key("app/big"), value, Expect::Any, Lifetime::Persistent))
    };
    assert!(matches!(put(MAX_VALUE_BYTES + 1), Err(RegistryError::TooLarge { .. })));
    assert!(matches!(put(0), Err(RegistryError::Empty { .. })));
    assert_eq!(read(registry, "app/big"), None);
    put(MAX_VALUE_BYTES).unwrap();
    await_state(registry, "the largest value", |state| {
        state.entries.get("app/big").is_some_and(|entry| entry.value.len() == MAX_VALUE_BYTES)
    });
}

fn a_key_may_have_keys_below_it(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    write(registry, "app/shop/part", "below", Expect::Absent).unwrap();
    assert_eq!(read(registry, "app/shop"), None);
    let version = write(registry, "app/shop", "above", Expect::Absent).unwrap();
    await_value(registry, "app/shop", Some("above"));
    run(registry.delete(&key("app/shop"), Expect::Version(version))).unwrap();
    await_value(registry, "app/shop", None);
    await_value(registry, "app/shop/part", Some("below"));
}

fn two_thousand_keys_arrive_complete(fixture: &mut dyn Fixture) {
    const KEYS: usize = 2_000;
    let registry = fixture.registry();
    let keys: BTreeSet<Key> =
        (0..KEYS).map(|n| key(&format!("service/address/a{}/v1/c{n}", n % 100))).collect();
    let results = run(futures::future::join_all(keys.iter().map(|key| {
        registry.write(key, Bytes::from_static(b"10.0.0.1:80"), Expect::Absent, Lifetime::Persistent)
    })));
    for result in results {
        result.unwrap();
    }
    for registry in [registry, &fixture.another()] {
        await_state(&**registry, "all keys", |state| state.entries.len() == KEYS);
        assert!(state(&**registry).entries.keys().eq(keys.iter()));
    }
}

fn put(path: &str, value: &'static str, expect: Expect) -> Step {
    Step { key: key(path), value: Some(Bytes::from_static(value.as_bytes())), expect }
}

fn gone(path: &str, expect: Expect) -> Step {
    Step { key: key(path), value: None, expect }
}

fn several_keys_change_together_or_not_at_all(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    let steps = [put("app/a", "1", Expect::Absent), put("route/b", "1", Expect::Absent)];
    let first = run(registry.transact(&steps)).unwrap();
    let entry = read(registry, "app/a").unwrap();
    assert_eq!((entry.version, entry.created, entry.ephemeral), (first, first, false));
    assert_eq!(read(registry, "route/b").unwrap().version, first);

    // The last condition fails: nothing has happened, and the key is named.
    let steps = [
        put("app/a", "2", Expect::Version(first)),
        gone("route/b", Expect::Version(first)),
        put("app/c", "1", Expect::Version(first)),
    ];
    match run(registry.transact(&steps)) {
        Err(RegistryError::Conflict { key, expected }) => {
            assert_eq!((key.as_str(), expected), ("app/c", Expect::Version(first)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(&read(registry, "app/a").unwrap().value[..], b"1");
    assert!(read(registry, "route/b").is_some());
    assert!(is_conflict(&run(registry.transact(&[put("app/a", "x", Expect::Absent)]))));

    let steps = [
        put("app/a", "2", Expect::Version(first)),
        gone("route/b", Expect::Version(first)),
        put("app/c", "1", Expect::Absent),
        gone("app/unheard-of", Expect::Any),
    ];
    let second = run(registry.transact(&steps)).unwrap();
    assert!(second > first);
    let entry = read(registry, "app/a").unwrap();
    assert_eq!((&entry.value[..], entry.version, entry.created), (&b"2"[..], second, first));
    assert_eq!(read(registry, "app/c").unwrap().version, second);
    assert_eq!(read(registry, "route/b"), None);
    let other = fixture.another();
    await_state(&*other, "all of it", |state| state.entries.len() == 2);
    // The same key twice has no meaning.
    let twice = [put("app/a", "3", Expect::Any), gone("app/a", Expect::Any)];
    assert!(matches!(run(registry.transact(&twice)), Err(RegistryError::Twice { .. })));
    run(registry.transact(&[])).unwrap();
}

fn the_largest_transaction_is_taken_and_a_larger_one_refused(fixture: &mut dyn Fixture) {
    let registry = &**fixture.registry();
    let share = MAX_TRANSACTION_BYTES / MAX_STEPS;
    let steps = |count: usize| -> Vec<Step> {
        let step = |n: usize| {
            let path = format!("app/{n:08}");
            let value = Bytes::from(vec![b'x'; share - path.len()]);
            Step { key: key(&path), value: Some(value), expect: Expect::Absent }
        };
        (0..count).map(step).collect()
    };
    let is_too_much =
        |steps: &[Step]| matches!(run(registry.transact(steps)), Err(RegistryError::TooMuch { .. }));
    assert!(is_too_much(&steps(MAX_STEPS + 1)));
    let mut larger = steps(MAX_STEPS);
    larger[0].value = Some(Bytes::from(vec![b'x'; share]));
    assert!(is_too_much(&larger));
    run(registry.transact(&steps(MAX_STEPS))).unwrap();
    await_state(registry, "all keys", |state| state.entries.len() == MAX_STEPS);
}

fn a_transaction_ends_registrations(fixture: &mut dyn Fixture) {
    write_for_session(&**fixture.registry(), "app/stays", "1").unwrap();
    write_for_session(&**fixture.registry(), "app/goes", "1").unwrap();
    let steps = [put("app/stays", "2", Expect::Any), gone("app/goes", Expect::Any)];
    run(fixture.registry().transact(&steps)).unwrap();
    fixture.renew_session();
    await_value(&**fixture.registry(), "app/stays", Some("2"));
    assert_eq!(read(&**fixture.registry(), "app/goes"), None);
    assert!(!read(&**fixture.registry(), "app/stays").unwrap().ephemeral);
}
