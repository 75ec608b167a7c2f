use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::registry::Link;

const GRACE: Duration = Duration::from_secs(60);

/// Who does not serve.
#[derive(Debug, Default)]
struct Dead(Mutex<HashSet<String>>);

impl Dead {
    fn kill(&self, app: &str, instance: &str) {
        self.0.lock().unwrap().insert(format!("{app}/{instance}"));
    }
}

impl Witness for Dead {
    fn serves(&self, app: &AppId, key: &InstanceKey) -> bool {
        !self.0.lock().unwrap().contains(&format!("{app}/{}", key.instance))
    }
}

fn entry(value: &str, ephemeral: bool) -> Entry {
    Entry { value: Bytes::copy_from_slice(value.as_bytes()), version: 1, created: 1, ephemeral }
}

/// A registry, a clock and a skeptic who hears of the one at the time of the other.
struct Scene {
    entries: OrdMap<Key, Entry>,
    revision: u64,
    now: Instant,
    dead: Dead,
    skeptic: RefCell<Skeptic>,
}

impl Scene {
    fn new() -> Self {
        Self::after(None)
    }

    fn after(last_good: Option<(u64, OrdMap<Key, Entry>)>) -> Self {
        let skeptic = RefCell::new(Skeptic::new(GRACE, last_good));
        Self { entries: OrdMap::new(), revision: 10, now: Instant::now(), dead: Dead::default(), skeptic }
    }

    /// Addresses of `app` by session, `c0` on.
    fn register(&mut self, app: &str, count: usize) {
        (0..count).for_each(|number| self.put(&address(app, number), true));
    }

    fn put(&mut self, key: &str, ephemeral: bool) {
        self.entries.insert(Key::parse(key).unwrap(), entry("10.0.0.1:80", ephemeral));
        self.revision += 1;
    }

    fn lose(&mut self, app: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.entries.remove(&Key::parse(&address(app, number)).unwrap());
        }
        self.revision += 1;
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn hear_with(&self, link: Link) -> State {
        let state = State { link, revision: self.revision, ahead: false, entries: self.entries.clone() };
        self.skeptic.borrow_mut().hear(&state, self.now, &self.dead)
    }

    /// The keys that are served.
    fn hear(&self) -> Vec<String> {
        let served = self.hear_with(Link::Connected { since: self.now });
        served.entries.keys().map(ToString::to_string).collect()
    }

    fn report(&self) -> Report {
        self.skeptic.borrow().report()
    }
}

fn address(app: &str, number: usize) -> String {
    format!("service/address/{app}/v1/c{number}")
}

#[test]
fn most_of_an_app_that_vanishes_at_once_stays_while_it_serves_and_for_its_grace() {
    let mut scene = Scene::new();
    scene.register("shop", 4);
    assert_eq!(scene.hear().len(), 4);
    // Seen one by one, as ZooKeeper's watchers do.
    for number in 0..3 {
        scene.lose("shop", number..number + 1);
        scene.hear();
    }
    assert_eq!(scene.hear().len(), 4);
    assert_eq!(scene.report().held.len(), 3);
    scene.dead.kill("shop", "c1");
    assert_eq!(scene.hear(), [address("shop", 0), address("shop", 2), address("shop", 3)]);
    scene.pass(59);
    assert_eq!(scene.hear().len(), 3);
    scene.pass(1);
    assert_eq!(scene.hear(), [address("shop", 3)]);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn half_of_an_app_or_one_after_the_other_is_let_go() {
    let mut scene = Scene::new();
    scene.register("shop", 4);
    scene.hear();
    scene.lose("shop", 0..2);
    assert_eq!(scene.hear().len(), 2);
    scene.pass(3);
    scene.lose("shop", 2..3);
    assert_eq!(scene.hear().len(), 1);
}

#[test]
fn what_is_replaced_deleted_on_purpose_or_ended_with_its_app_is_let_go() {
    let mut scene = Scene::new();
    scene.register("shop", 2);
    scene.put("app/blog", false);
    scene.register("blog", 2);
    for number in 0..4 {
        scene.put(&address("fixed", number), false);
    }
    scene.hear();
    // New instances came with the end of the old ones.
    scene.put(&address("shop", 7), true);
    scene.lose("shop", 0..2);
    scene.lose("fixed", 0..4);
    scene.entries.remove(&Key::parse("app/blog").unwrap());
    scene.lose("blog", 0..2);
    scene.put(&address("other", 0), true);
    assert_eq!(scene.hear(), [address("other", 0), address("shop", 7)]);
}

#[test]
fn an_app_that_ends_later_takes_what_was_held_with_it() {
    let mut scene = Scene::new();
    scene.put("app/blog", false);
    scene.register("blog", 2);
    scene.hear();
    scene.lose("blog", 0..2);
    assert_eq!(scene.hear().len(), 3);
    scene.entries.remove(&Key::parse("app/blog").unwrap());
    scene.revision += 1;
    assert!(scene.hear().is_empty());
}

#[test]
fn a_registry_that_comes_back_empty_is_doubted_until_it_is_accepted() {
    let mut scene = Scene::new();
    for app in ["a", "b", "c", "d"] {
        scene.put(&format!("app/{app}"), false);
        scene.put(&address(app, 0), false);
    }
    let all = scene.hear();
    scene.hear_with(Link::Lost { since: scene.now, why: "gone".into() });
    scene.entries = OrdMap::new();
    scene.revision += 1;
    assert_eq!(scene.hear(), all);
    assert_eq!(scene.report().doubt, Some(Doubt::Emptied));
    // It goes on for as long as it takes, and what happens meanwhile is believed.
    scene.pass(100_000);
    scene.put(&address("e", 0), true);
    scene.put(&address("a", 0), true);
    scene.dead.kill("b", "c0");
    let served = scene.hear();
    assert_eq!(served.len(), all.len());
    assert!(served.contains(&address("e", 0)) && !served.contains(&address("b", 0)));
    scene.skeptic.borrow_mut().accept();
    assert_eq!(scene.hear(), [address("a", 0), address("e", 0)]);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn a_registry_that_went_back_in_time_is_doubted_until_it_says_the_same_again() {
    let mut scene = Scene::new();
    scene.put("app/a", false);
    scene.put(&address("a", 0), false);
    let good = scene.hear();
    let (entries, revision) = (scene.entries.clone(), scene.revision);
    let mut old = entries.clone();
    old.remove(&Key::parse(&address("a", 0)).unwrap());
    old.insert(Key::parse("app/a").unwrap(), entry("older", false));
    (scene.entries, scene.revision) = (old, revision - 2);
    assert_eq!(scene.hear(), good);
    assert_eq!(scene.report().doubt, Some(Doubt::WentBack));
    let served = scene.hear_with(Link::Connected { since: scene.now });
    assert_eq!(served.entries[&Key::parse("app/a").unwrap()].value, "10.0.0.1:80");
    assert_eq!(served.revision, revision);
    (scene.entries, scene.revision) = (entries, revision - 1);
    assert_eq!(scene.hear(), good);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn a_key_that_became_what_it_was_tells_that_the_registry_went_back() {
    let mut scene = Scene::new();
    let key = Key::parse("app/a").unwrap();
    let versioned = |version, value| Entry { version, ..entry(value, false) };
    scene.entries.insert(key.clone(), versioned(7, "new"));
    scene.put(&address("a", 0), false);
    scene.hear();
    scene.entries.insert(key.clone(), versioned(6, "old"));
    scene.lose("a", 0..1);
    let served = scene.hear_with(Link::Connected { since: scene.now });
    assert_eq!((served.entries.len(), &*served.entries[&key].value), (2, &b"new"[..]));
    assert_eq!(scene.report().doubt, Some(Doubt::WentBack));
    // Made anew is another key.
    scene.skeptic.borrow_mut().accept();
    scene.entries.insert(key, Entry { created: 9, ..versioned(1, "anew") });
    scene.revision += 1;
    assert_eq!(scene.hear(), ["app/a"]);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn a_former_runs_table_is_served_until_the_registry_speaks_and_then_only_if_that_went_back() {
    let mut scene = Scene::new();
    scene.register("shop", 3);
    scene.hear();
    let saved = (scene.revision, scene.entries.clone());
    for (went_back, wanted) in [(false, 0), (true, 3)] {
        let mut next = Scene::after(Some(saved.clone()));
        let before =
            State { link: Link::Connecting { why: None }, revision: 0, ahead: false, entries: OrdMap::new() };
        let served = next.skeptic.borrow_mut().hear(&before, next.now, &next.dead);
        assert_eq!((served.revision, served.entries.len()), (saved.0, 3));
        next.revision = if went_back { saved.0 - 1 } else { saved.0 + 1 };
        assert_eq!(next.hear().len(), wanted);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put { app: usize, number: usize, ephemeral: bool },
    Delete { app: usize, number: usize },
    PutSpec { app: usize },
    DeleteSpec { app: usize },
    Kill { app: usize, number: usize },
    Lose,
    GoBack,
    Accept,
    Pass { millis: u64 },
    Hear,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..5_usize, 0..4_usize);
    prop_oneof![
        6 => (place(), any::<bool>()).prop_map(|((app, number), ephemeral)| Step::Put { app, number, ephemeral }),
        5 => place().prop_map(|(app, number)| Step::Delete { app, number }),
        1 => (0..5_usize).prop_map(|app| Step::PutSpec { app }),
        1 => (0..5_usize).prop_map(|app| Step::DeleteSpec { app }),
        1 => place().prop_map(|(app, number)| Step::Kill { app, number }),
        1 => Just(Step::Lose),
        1 => Just(Step::GoBack),
        1 => Just(Step::Accept),
        3 => (0..5_000_u64).prop_map(|millis| Step::Pass { millis }),
        6 => Just(Step::Hear),
    ]
}

proptest! {
    #[test]
    fn what_is_served_is_what_was_heard_but_for_what_is_held(steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::new();
        let apps = ["a", "b", "c", "d", "e"];
        for step in steps {
            match step {
                Step::Put { app, number, ephemeral } => scene.put(&address(apps[app], number), ephemeral),
                Step::Delete { app, number } => scene.lose(apps[app], number..number + 1),
                Step::PutSpec { app } => scene.put(&format!("app/{}", apps[app]), false),
                Step::DeleteSpec { app } => {
                    scene.entries.remove(&Key::parse(&format!("app/{}", apps[app])).unwrap());
                    scene.revision += 1;
                }
                Step::Kill { app, number } => scene.dead.kill(apps[app], &format!("c{number}")),
                Step::Lose => {
                    scene.entries = OrdMap::new();
                    scene.revision += 1;
                }
                Step::GoBack => scene.revision = scene.revision.saturating_sub(5).max(1),
                Step::Accept => scene.skeptic.borrow_mut().accept(),
                Step::Pass { millis } => scene.now += Duration::from_millis(millis),
                Step::Hear => {
                    let served = scene.hear_with(Link::Connected { since: scene.now });
                    let report = scene.report();
                    let held: HashSet<_> = report.held.iter().collect();
                    for (key, entry) in &scene.entries {
                        prop_assert!(served.entries.get(key) == Some(entry) || held.contains(key), "{key}");
                    }
                    for key in served.entries.keys() {
                        prop_assert!(scene.entries.contains_key(key) || held.contains(key), "{key}");
                        let is_dead = !serves(key, &scene.dead);
                        prop_assert!(!is_dead || !held.contains(key), "{key} is dead and held");
                    }
                    prop_assert!(report.doubt.is_none() || !held.is_empty());
                    prop_assert!(served.revision == scene.revision || report.doubt.is_some());
                    let until = |hold: &Hold| matches!(hold, Hold::Until(until) if *until <= scene.now);
                    prop_assert!(!scene.skeptic.borrow().held.values().any(until));
                }
            }
        }
    }

    #[test]
    fn without_a_grace_nothing_is_held_but_what_a_doubted_registry_lacks(
        numbers in prop::collection::vec((0..2_usize, 0..4_usize, any::<bool>()), 1..40),
    ) {
        // Two apps: too few for a registry to be taken for emptied.
        let mut scene = Scene::new();
        scene.skeptic = RefCell::new(Skeptic::new(Duration::ZERO, None));
        for (app, number, is_put) in numbers {
            let app = ["a", "b"][app];
            if is_put { scene.put(&address(app, number), true) } else { scene.lose(app, number..number + 1) }
            let wanted: Vec<_> = scene.entries.keys().map(ToString::to_string).collect();
            prop_assert_eq!(scene.hear(), wanted);
        }
    }
}

/// Keeps the compiler honest about what a witness may be.
#[test]
fn a_witness_can_be_shared() {
    fn shared(_: Arc<dyn Witness>) {}
    shared(Arc::new(Dead::default()));
}
