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

    fn takes_requests(&self, app: &AppId, key: &InstanceKey) -> Option<bool> {
        (!self.serves(app, key)).then_some(false)
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
        // Each instance at an address of its own.
        let port = key.bytes().fold(80_u16, |port, byte| port.wrapping_mul(31) ^ u16::from(byte)).max(1);
        let is_address = key.starts_with("service");
        let value = if is_address { format!("10.0.0.2:{port}") } else { "10.0.0.1:80".to_owned() };
        self.put_value(key, &value, ephemeral);
    }

    fn put_value(&mut self, key: &str, value: &str, ephemeral: bool) {
        self.revision += 1;
        let key = Key::parse(key).unwrap();
        let created = self.entries.get(&key).map_or(self.revision, |former| former.created);
        let made = Entry { version: self.revision, created, ..entry(value, ephemeral) };
        self.entries.insert(key, made);
    }

    /// Has the key as `former` has it.
    fn keep(&mut self, former: &Self, key: &str) {
        let key = Key::parse(key).unwrap();
        self.entries.insert(key.clone(), former.entries[&key].clone());
    }

    /// The next run, with what this one has seen.
    fn restarted(&self) -> Self {
        Self { revision: self.revision + 1, ..Self::after(Some((self.revision, self.entries.clone()))) }
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
    // Made anew is another key, and of a later version.
    scene.skeptic.borrow_mut().accept();
    scene.revision += 1;
    scene.entries.insert(key, Entry { created: scene.revision, ..versioned(scene.revision, "anew") });
    assert_eq!(scene.hear(), ["app/a"]);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn a_former_runs_table_is_served_until_the_registry_speaks_and_its_word_then_doubted_as_by_that_run() {
    let mut scene = Scene::new();
    scene.register("shop", 3);
    scene.put("app/shop", false);
    scene.hear();
    let saved = (scene.revision, scene.entries.clone());
    for went_back in [false, true] {
        let mut next = Scene::after(Some(saved.clone()));
        let before =
            State { link: Link::Connecting { why: None }, revision: 0, ahead: false, entries: OrdMap::new() };
        let served = next.skeptic.borrow_mut().hear(&before, next.now, &next.dead);
        assert_eq!((served.revision, served.entries.len()), (saved.0, 4));
        next.keep(&scene, "app/shop");
        next.revision = if went_back { saved.0 - 1 } else { saved.0 + 1 };
        // The registrar's session ended while nobody was there to see it.
        assert_eq!(next.hear().len(), 4);
        next.dead.kill("shop", "c1");
        assert_eq!(next.hear().len(), 3);
        next.pass(60);
        assert_eq!(next.hear().len(), if went_back { 3 } else { 1 });
    }
}

#[test]
fn what_a_former_run_knew_holds_nothing_against_a_registry_that_has_truly_changed() {
    let mut scene = Scene::new();
    for app in ["a", "b", "c", "d"] {
        scene.put(&address(app, 0), false);
    }
    scene.put("app/shop", false);
    scene.register("shop", 4);
    scene.hear();
    // Of four apps three were removed, of the last one's instances three replaced.
    let mut next = scene.restarted();
    next.keep(&scene, &address("d", 0));
    next.keep(&scene, "app/shop");
    next.keep(&scene, &address("shop", 3));
    (4..7).for_each(|number| next.put(&address("shop", number), true));
    let all: Vec<_> = next.entries.keys().map(ToString::to_string).collect();
    assert_eq!(next.hear(), all);
    assert_eq!(next.report(), Report::default());
}

#[test]
fn an_address_that_another_instance_has_now_is_not_held() {
    let mut scene = Scene::new();
    for number in 0..3 {
        scene.put_value(&address("shop", number), &format!("10.0.0.2:{}", 9000 + number), true);
    }
    // Shared from the beginning: that says nothing.
    scene.put_value(&address("blog", 0), "10.0.0.2:9002", false);
    scene.hear();
    let mut next = scene.restarted();
    next.put_value(&address("blog", 0), "10.0.0.2:9002", false);
    next.put_value(&address("cart", 0), "10.0.0.2:9000", true);
    let [blog, cart, shop] = [("blog", 0), ("cart", 0), ("shop", 0)].map(|(app, at)| address(app, at));
    assert_eq!(next.hear(), [&*blog, &cart, &address("shop", 1), &address("shop", 2)]);
    // And later, also where it moves to it.
    next.put_value(&blog, "10.0.0.2:9001", false);
    assert_eq!(next.hear(), [&*blog, &cart, &address("shop", 2)]);
    // Its own registrar has it back, whoever else has it.
    next.put_value(&shop, "10.0.0.2:9000", true);
    assert_eq!(next.hear(), [&*blog, &cart, &shop, &address("shop", 2)]);
}

#[test]
fn a_minority_that_vanishes_stays_where_it_alone_serves() {
    let mut scene = Scene::new();
    scene.register("shop", 3);
    // Was never one.
    scene.put_value(&address("shop", 3), "x y z", false);
    scene.hear();
    scene.dead.kill("shop", "c1");
    // Serves, but nobody is sent there.
    scene.put_value("operator/shop/v1/c2", r#"{"state": "maintenance"}"#, false);
    scene.lose("shop", 0..1);
    assert_eq!(scene.hear().len(), 5);
    assert_eq!(scene.report().held, [Key::parse(&address("shop", 0)).unwrap()]);
    scene.pass(60);
    assert_eq!(scene.hear().len(), 4);
    assert_eq!(scene.report(), Report::default());
}

#[test]
fn a_registry_that_was_emptied_and_filled_again_meanwhile_is_doubted_whatever_its_revision_is() {
    let mut scene = Scene::new();
    for app in ["a", "b", "c", "d"] {
        scene.put(&format!("app/{app}"), false);
        scene.put(&address(app, 0), true);
    }
    let all = scene.hear();
    let anew = |scene: &mut Scene, key: &str| {
        let made = Entry { created: 50, version: 50, ..entry("anew", false) };
        scene.entries.insert(Key::parse(key).unwrap(), made);
        scene.revision = 60;
    };
    let mut cut_off = Scene { revision: 60, ..Scene::after(None) };
    (cut_off.entries, cut_off.revision) = (scene.entries.clone(), scene.revision);
    cut_off.hear();
    for mut late in [scene.restarted(), cut_off] {
        late.entries = OrdMap::new();
        anew(&mut late, "app/a");
        anew(&mut late, "app/b");
        (0..2).for_each(|number| late.put(&address(["a", "b"][number], 7), true));
        let served = late.hear();
        assert!(all.iter().all(|key| served.contains(key)), "{served:?}");
        assert_eq!(late.report().doubt, Some(Doubt::Emptied));
        // One key that is still the same proves that the others were removed by somebody.
        let mut next = scene.restarted();
        next.keep(&scene, "app/d");
        anew(&mut next, "app/a");
        next.hear();
        assert_eq!(next.report().doubt, None);
    }
}

#[test]
fn a_registry_with_another_past_is_doubted_whatever_its_revision_is() {
    let mut scene = Scene::new();
    scene.put("app/a", false);
    scene.put(&address("a", 0), false);
    let all = scene.hear();
    let other = |key: &str, version, created| {
        (Key::parse(key).unwrap(), Entry { version, created, ..entry("other", false) })
    };
    let (lasting, seen) = (scene.entries.clone(), scene.revision);
    for (is_first, (key, made)) in [
        // Was there before what was seen, and was not seen.
        (false, other("app/b", seen, seen)),
        // Was changed otherwise then.
        (false, other("app/a", seen, 11)),
        (true, other("app/a", seen, 11)),
        // Was made before.
        (true, other("app/a", seen + 1, 10)),
    ] {
        let mut late = if is_first { scene.restarted() } else { Scene::new() };
        (late.entries, late.revision) = (lasting.clone(), seen);
        if !is_first {
            late.hear();
        }
        (late.entries, late.revision) = (OrdMap::unit(key, made), seen + 100);
        let served = late.hear();
        assert!(all.iter().all(|key| served.contains(key)), "{served:?}");
        assert_eq!(late.report().doubt, Some(Doubt::WentBack));
    }
    // What a former run did not save may have been there.
    let mut next = scene.restarted();
    let (key, made) = other("app/b", seen, seen);
    (next.entries, next.revision) = (lasting.update(key, made), seen + 100);
    assert_eq!(next.hear().len(), 3);
    assert_eq!(next.report(), Report::default());
}

#[test]
fn a_doubted_registry_that_goes_back_once_more_takes_nothing_either() {
    let mut scene = Scene::new();
    scene.put("app/a", false);
    scene.put(&address("a", 0), false);
    let all = scene.hear();
    (scene.entries, scene.revision) = (OrdMap::new(), 1);
    scene.hear();
    scene.put("app/b", false);
    scene.put(&address("a", 1), false);
    assert_eq!(scene.hear().len(), 4);
    (scene.entries, scene.revision) = (OrdMap::new(), 1);
    assert_eq!(scene.hear().len(), 4);
    scene.skeptic.borrow_mut().accept();
    assert!(scene.hear().is_empty() && all.len() == 2);
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
                    let until = |hold: &Hold| matches!(hold, Hold::Until(until, _) if *until <= scene.now);
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
