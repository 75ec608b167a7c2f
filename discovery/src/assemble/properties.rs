//! However a state came about, the snapshot is the one that assembling it from nothing gives.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use proptest::prelude::*;
use topology::Rejection;

use super::assembler::{Assembler, Outcome};
use crate::file::{FileApp, FileState};
use crate::layout::{Place, parse_address_value, parse_word_value};
use crate::registry::{Entry, Key, Link, State};
use crate::spec::{parse_app_file, parse_app_value, parse_route_value};

const KEYS: [&str; 11] = [
    "service/address/a/v1/c1",
    "service/address/a/v1/c2",
    "service/address/a/v2/c1",
    "service/address/b/v1/c1",
    "service/address/b/v1/c1/extra",
    "app/a",
    "app/b",
    "operator/a/v1/c2",
    "operator/b/v0/c1",
    "operator/c/v1/c1",
    "vip/x",
];
const VALUES: [&str; 8] = [
    "10.0.0.1:80",
    r#"{"address": "10.0.0.2:80", "weight": 3}"#,
    "nonsense",
    r#"{"hosts": ["a.de"]}"#,
    r#"{"hostz": []}"#,
    r#"{"state": "drain", "weight": 0}"#,
    r#"{"weight": 7}"#,
    "",
];
const FILES: [&str; 3] = [
    "id = \"a\"\nhosts = [\"file.de\"]",
    "id = \"a\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c2\"\naddress = \"127.0.0.1:1\"",
    "id = \"b\"\n[[endpoint]]\nversion = \"v0\"\ninstance = \"c1\"\naddress = \"127.0.0.1:2\"",
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Put {
        key: usize,
        value: usize,
    },
    /// As when a session ends and its owner registers anew.
    Recreate {
        key: usize,
        value: usize,
    },
    Delete {
        key: usize,
    },
    PutFile {
        text: usize,
    },
    DeleteFile {
        text: usize,
    },
    RejectFile,
    AcceptFile,
    /// The assembler looks: what lies between two looks, it sees as one.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let (key, value, text) = (0..KEYS.len(), 0..VALUES.len(), 0..FILES.len());
    prop_oneof![
        6 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::Put { key, value }),
        1 => (key.clone(), value).prop_map(|(key, value)| Step::Recreate { key, value }),
        2 => key.prop_map(|key| Step::Delete { key }),
        2 => text.clone().prop_map(|text| Step::PutFile { text }),
        1 => text.prop_map(|text| Step::DeleteFile { text }),
        1 => Just(Step::RejectFile),
        1 => Just(Step::AcceptFile),
        6 => Just(Step::Look),
    ]
}

/// What the sources say, and for each key the value that should be in force.
struct World {
    state: State,
    good: OrdMap<Key, Entry>,
    files: FileState,
}

impl World {
    fn new() -> Self {
        let state =
            State { link: Link::Connecting { why: None }, revision: 0, ahead: false, entries: OrdMap::new() };
        Self { state, good: OrdMap::new(), files: FileState::default() }
    }

    fn take(&mut self, step: Step) {
        self.state.revision += 1;
        match step {
            Step::Put { key, value } => self.put(KEYS[key], VALUES[value], false),
            Step::Recreate { key, value } => self.put(KEYS[key], VALUES[value], true),
            Step::Delete { key } => drop(self.state.entries.remove(KEYS[key])),
            Step::PutFile { text } => {
                let app = Arc::new(parse_app_file("f.toml", FILES[text]).unwrap());
                self.files.apps.insert(app.id.clone(), FileApp { path: "f.toml".into(), app });
            }
            Step::DeleteFile { text } => {
                let app = parse_app_file("f.toml", FILES[text]).unwrap();
                self.files.apps.remove(&app.id);
            }
            Step::RejectFile => {
                let rejection = Rejection { app: None, reason: "broken".into() };
                self.files.rejections.insert("g.toml".into(), rejection);
            }
            Step::AcceptFile => drop(self.files.rejections.remove("g.toml")),
            Step::Look => {}
        }
    }

    fn put(&mut self, key: &str, value: &'static str, anew: bool) {
        let key = Key::parse(key).unwrap();
        let revision = self.state.revision;
        let known = self.state.entries.get(&key).filter(|_| !anew);
        let created = known.map_or(revision, |entry| entry.created);
        let value = Bytes::from_static(value.as_bytes());
        self.state.entries.insert(key, Entry { value, version: revision, created, ephemeral: anew });
    }

    /// Brings `good` up to the entries as they are now.
    fn look(&mut self) {
        let entries = &self.state.entries;
        let kept = std::mem::take(&mut self.good);
        for (key, entry) in entries {
            if is_good(key, entry) {
                self.good.insert(key.clone(), entry.clone());
            } else if let Some(before) = kept.get(key).filter(|before| before.created == entry.created) {
                self.good.insert(key.clone(), before.clone());
            }
        }
    }
}

fn is_good(key: &Key, entry: &Entry) -> bool {
    match Place::of(key) {
        Ok(Place::Address { key: instance, .. }) => {
            parse_address_value(key.as_str(), instance, &entry.value).is_ok()
        }
        Ok(Place::Word { .. }) => parse_word_value(key.as_str(), &entry.value).is_ok(),
        Ok(Place::Spec(app)) => parse_app_value(key.as_str(), &entry.value, &app).is_ok(),
        Ok(Place::Route(_)) => parse_route_value(key.as_str(), &entry.value).is_ok(),
        // Nobody here has keys.
        Ok(Place::Certificate(_)) => false,
        Ok(Place::Other) => true,
        Err(_) => false,
    }
}

fn from_nothing(state: &State, files: &FileState) -> Assembler {
    let mut assembler = Assembler::default();
    assembler.apply(state, files, false);
    assembler
}

fn check(assembler: &mut Assembler, world: &mut World) -> Result<(), TestCaseError> {
    let before = assembler.snapshot().clone();
    world.look();
    let outcome = assembler.apply(&world.state, &world.files, false);
    let now = assembler.snapshot();

    let good = State { entries: world.good.clone(), ..world.state.clone() };
    let at_once = from_nothing(&good, &world.files);
    prop_assert_eq!(&now.apps, &at_once.snapshot().apps);
    prop_assert_eq!(&now.words, &at_once.snapshot().words);
    let as_is = from_nothing(&world.state, &world.files);
    let mut rejections = at_once.snapshot().rejections.clone();
    rejections.extend(as_is.snapshot().rejections.clone());
    prop_assert_eq!(&now.rejections, &rejections);

    let same = now.apps == before.apps && now.words == before.words && now.rejections == before.rejections;
    prop_assert_eq!(outcome == Outcome::Unchanged, same);
    prop_assert_eq!(now.revision > before.revision, !same);
    prop_assert_eq!(now.registry_revision, world.state.revision);
    Ok(())
}

proptest! {
    #[test]
    fn assembling_step_by_step_equals_assembling_at_once(steps in prop::collection::vec(step(), 1..60)) {
        let (mut assembler, mut world) = (Assembler::default(), World::new());
        for step in steps {
            world.take(step);
            if matches!(step, Step::Look) {
                check(&mut assembler, &mut world)?;
            }
        }
        check(&mut assembler, &mut world)?;
    }
}
