use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::file::FilePattern;
use crate::registry::{Entry, Expect, Key, Lifetime, Link, RegistryError};

/// A registry whose state the test sets.
struct Scripted(watch::Sender<State>);

impl Scripted {
    fn new(link: Link) -> Self {
        let state = State { link, revision: 0, ahead: false, entries: imbl::OrdMap::new() };
        Self(watch::channel(state).0)
    }

    fn put(&self, key: &str, value: &str) {
        self.0.send_modify(|state| {
            state.revision += 1;
            let key = Key::parse(key).unwrap();
            let created = state.entries.get(&key).map_or(state.revision, |entry| entry.created);
            let value = Bytes::copy_from_slice(value.as_bytes());
            let entry = Entry { value, version: state.revision, created, ephemeral: false };
            state.entries.insert(key, entry);
        });
    }

    fn delete(&self, key: &str) {
        self.0.send_modify(|state| {
            state.revision += 1;
            state.entries.remove(key);
        });
    }
}

#[async_trait]
impl Registry for Scripted {
    fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    async fn read(&self, _: &Key) -> Result<Option<Entry>, RegistryError> {
        unreachable!("assembling reads nothing by itself")
    }

    async fn write(&self, _: &Key, _: Bytes, _: Expect, _: Lifetime) -> Result<u64, RegistryError> {
        unreachable!("assembling writes nothing")
    }

    async fn delete(&self, _: &Key, _: Expect) -> Result<(), RegistryError> {
        unreachable!("assembling writes nothing")
    }
}

struct AllServe;

impl Witness for AllServe {
    fn serves(&self, _: &topology::AppId, _: &topology::InstanceKey) -> bool {
        true
    }
}

const GRACE: Duration = Duration::from_secs(600);

struct Running {
    registry: Arc<Scripted>,
    folder: tempfile::TempDir,
    snapshots: watch::Receiver<Snapshot>,
    doubts: watch::Receiver<Report>,
    accepted: Arc<Notify>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    start_with(Link::Connected { since: Instant::now() }, None).await
}

async fn start_with(link: Link, saved: Option<SavedFile>) -> Running {
    let registry = Arc::new(Scripted::new(link));
    let folder = tempfile::tempdir().unwrap();
    let pattern = FilePattern::parse(folder.path(), "*.toml").unwrap();
    let files = FileSource::start(vec![pattern]).await.unwrap();
    let cancel = CancellationToken::new();
    let belief = Belief { keys: None, grace: GRACE, saved };
    let discovery = Discovery::start(registry.clone(), files, belief, Arc::new(AllServe), cancel.clone());
    let (snapshots, doubts) = (discovery.snapshots.clone(), discovery.doubts.clone());
    let accepted = discovery.acceptance();
    Running { registry, folder, snapshots, doubts, accepted, cancel, task: discovery.into_task() }
}

impl Running {
    async fn until(&mut self, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let found = tokio::time::timeout(Duration::from_secs(10), self.snapshots.wait_for(wanted));
        found.await.expect("in time").unwrap().clone()
    }

    fn save(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}

fn addresses(snapshot: &Snapshot, app: &str) -> Vec<String> {
    let app = snapshot.apps.get(app).unwrap();
    app.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn reason(snapshot: &Snapshot, place: &str) -> String {
    snapshot.rejections.get(place).unwrap().reason.to_string()
}

const C1: &str = "service/address/shop/v1/c1";

#[tokio::test]
async fn an_address_alone_makes_an_app() {
    let mut running = start().await;
    running.registry.put(C1, "10.0.0.1:80");
    let snapshot = running.until(|snapshot| snapshot.apps.contains_key("shop")).await;
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80"]);
    let app = snapshot.apps.get("shop").unwrap();
    assert_eq!((*app.spec).clone(), topology::AppSpec::implied());
    assert_eq!((app.claimed, snapshot.registry_revision), (1, 1));
    running.registry.delete(C1);
    running.until(|snapshot| snapshot.apps.is_empty()).await;
}

#[tokio::test]
async fn a_bad_value_keeps_the_last_good_one_and_says_so() {
    let mut running = start().await;
    running.registry.put(C1, "10.0.0.1:80");
    running.registry.put("app/shop", r#"{"hosts": ["a.de"]}"#);
    running.registry.put(C1, "nonsense");
    running.registry.put("service/address/shop/v1/c2", "nonsense");
    running.registry.put("app/shop", "{");
    let snapshot = running.until(|snapshot| snapshot.rejections.len() == 3).await;
    // The scripted writes may have been seen as one: then there was no good value before.
    assert!(reason(&snapshot, C1).starts_with("service/address/shop/v1/c1: \"nonsense\" is no address"));
    for (key, value) in [(C1, "10.0.0.1:80"), ("app/shop", r#"{"hosts": ["a.de"]}"#)] {
        running.registry.put(key, value);
    }
    running.until(|snapshot| snapshot.rejections.len() == 1).await;
    running.registry.put(C1, "");
    running.registry.put("app/shop", r#"{"hostz": []}"#);
    let snapshot = running.until(|snapshot| snapshot.rejections.len() == 3).await;
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80"]);
    assert_eq!(snapshot.apps.get("shop").unwrap().spec.hosts.len(), 1);
    assert_eq!(reason(&snapshot, "app/shop"), "app/shop: hostz: unknown key; did you mean \"hosts\"?");
    running.registry.delete(C1);
    running.registry.delete("app/shop");
    let snapshot = running.until(|snapshot| snapshot.rejections.len() == 1).await;
    assert!(snapshot.apps.is_empty(), "{:?}", snapshot.apps);
}

#[tokio::test]
async fn a_file_wins_over_the_registry_and_endpoints_unite() {
    let mut running = start().await;
    running.registry.put(C1, "10.0.0.1:80");
    running.registry.put("service/address/shop/v1/c2", "10.0.0.2:80");
    running.registry.put("app/shop", r#"{"hosts": ["registry.de"]}"#);
    running.save(
        "shop.toml",
        "id = \"shop\"\nhosts = [\"file.de\"]\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"127.0.0.1:1\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c3\"\naddress = \"127.0.0.1:3\"\n",
    );
    let snapshot = running.until(|snapshot| {
        snapshot.rejections.len() == 1
            && snapshot.apps.get("shop").is_some_and(|app| app.endpoints.len() == 3)
    });
    let snapshot = snapshot.await;
    assert_eq!(addresses(&snapshot, "shop"), ["127.0.0.1:1", "10.0.0.2:80", "127.0.0.1:3"]);
    let app = snapshot.apps.get("shop").unwrap();
    assert_eq!((app.spec.hosts[0].to_string(), app.claimed), ("file.de".to_owned(), 0));
    let path = running.folder.path().join("shop.toml");
    let wanted = format!("app/shop: the spec in {} holds instead; keep one of the two", path.display());
    assert_eq!(reason(&snapshot, "app/shop"), wanted);
    std::fs::remove_file(path).unwrap();
    let snapshot = running.until(|snapshot| snapshot.rejections.is_empty()).await;
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(snapshot.apps.get("shop").unwrap().claimed, 3);
}

#[tokio::test]
async fn what_changes_nothing_wakes_nobody_but_its_revision_shows() {
    let mut running = start().await;
    running.registry.put(C1, "10.0.0.1:80");
    let before = running.until(|snapshot| !snapshot.apps.is_empty()).await;
    running.snapshots.mark_unchanged();
    running.registry.put("vip/10.0.0.9", "x");
    running.registry.put(C1, " 10.0.0.1:80 ");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while running.snapshots.borrow().registry_revision < 3 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(!running.snapshots.has_changed().unwrap());
    assert_eq!(running.snapshots.borrow().revision, before.revision);
    assert!(running.snapshots.borrow().apps.ptr_eq(&before.apps));
}

/// ZooKeeper's changes are read one by one, and its revision may come after them.
#[test]
fn the_revision_of_a_change_is_reached_also_when_it_comes_after_the_change() {
    let registry = Scripted::new(Link::Connected { since: Instant::now() });
    let (mut assembler, files) = (assembler::Assembler::new(None), FileState::default());
    let mut routed = |revision: u64, ahead: bool| {
        registry.0.send_modify(|state| (state.revision, state.ahead) = (revision, ahead));
        assembler.apply(&registry.0.borrow(), &files, false);
        assembler.snapshot().routed_revision
    };
    registry.put(C1, "10.0.0.1:80");
    registry.put(C1, "10.0.0.1:81");
    assert_eq!(routed(1, true), 1, "the entry's version is 2");
    assert_eq!(routed(2, true), 2, "and is reached");
    assert_eq!(routed(7, false), 2, "what others write does not move it");
    registry.delete(C1);
    assert_eq!(routed(8, true), 8);
    assert_eq!(routed(9, true), 9, "nobody says of which version a removal was");
    assert_eq!(routed(11, false), 11);
    assert_eq!(routed(12, false), 11);
}

#[tokio::test]
async fn misplaced_keys_harm_nobody_else() {
    let mut running = start().await;
    running.registry.put("service/address/shop/v1/c1/extra", "10.0.0.1:80");
    running.registry.put("app/.hidden", "{}");
    running.registry.put("service/address/shop", "10.0.0.7");
    running.registry.put(C1, "10.0.0.1:80");
    let snapshot = running.until(|snapshot| !snapshot.apps.is_empty()).await;
    let places: Vec<_> = snapshot.rejections.keys().map(|place| place.to_string()).collect();
    assert_eq!(places, ["app/.hidden", "service/address/shop/v1/c1/extra"]);
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn cancelling_ends_everything() {
    let running = start().await;
    running.cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap();
    assert_eq!(running.snapshots.has_changed().ok(), None, "nobody publishes any more");
}

#[tokio::test]
async fn a_start_without_the_registry_serves_what_the_last_run_has_saved() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedFile { path: folder.path().join("saved"), registry: "zookeeper a:1".to_owned() };
    let first = start_with(Link::Connected { since: Instant::now() }, Some(saved.clone())).await;
    first.registry.put(C1, "10.0.0.1:80");
    first.registry.put("app/shop", r#"{"hosts": ["shop.de"]}"#);
    let mut snapshots = first.snapshots.clone();
    snapshots.wait_for(|snapshot| snapshot.registry_revision == 2).await.unwrap();
    first.cancel.cancel();
    first.task.await.unwrap();

    let mut second = start_with(Link::Connecting { why: None }, Some(saved.clone())).await;
    let snapshot = second.until(|snapshot| !snapshot.apps.is_empty()).await;
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80"]);
    assert_eq!((snapshot.registry_revision, snapshot.apps["shop"].spec.hosts.len()), (2, 1));
    // The registry answers at last, and the app is gone.
    second.registry.0.send_modify(|state| {
        (state.link, state.revision) = (Link::Connected { since: Instant::now() }, 3);
    });
    second.until(|snapshot| snapshot.apps.is_empty()).await;
    second.cancel.cancel();
    second.task.await.unwrap();
    assert!(saved.load().unwrap().unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_bad_value_takes_the_last_good_one_from_no_later_run() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedFile { path: folder.path().join("saved"), registry: "zookeeper a:1".to_owned() };
    let connected = || Link::Connected { since: Instant::now() };
    let mut first = start_with(connected(), Some(saved.clone())).await;
    let good = [
        (C1, "10.0.0.1:80"),
        ("app/shop", r#"{"hosts": ["shop.de"]}"#),
        ("route/old", r#"{"hosts": ["old.de"], "respond": {"status": 204}}"#),
        ("operator/shop/v1/c1", r#"{"state": "drain"}"#),
    ];
    good.iter().for_each(|(key, value)| first.registry.put(key, value));
    first.until(|snapshot| snapshot.registry_revision == 4).await;
    good.iter().for_each(|(key, _)| first.registry.put(key, "{"));
    first.registry.put("app/new", "{");
    first.until(|snapshot| snapshot.rejections.len() == 5).await;
    let state = first.registry.0.borrow().clone();
    first.cancel.cancel();
    first.task.await.unwrap();

    let shows_all = |snapshot: &Snapshot| {
        let endpoint = &snapshot.apps["shop"].endpoints[0];
        let route = topology::RouteId::parse("old").unwrap();
        assert!(snapshot.apps.contains_key(&topology::AppId::of_route(&route)));
        assert_eq!(snapshot.apps["shop"].spec.hosts.len(), 1);
        assert_eq!((endpoint.address.port(), endpoint.word.state), (80, topology::AdminState::Drain));
    };
    // Without the registry, and with it.
    let without = start_with(Link::Connecting { why: None }, Some(saved.clone())).await;
    shows_all(&without.snapshots.borrow());
    without.cancel.cancel();
    without.task.await.unwrap();
    let mut with = start_with(Link::Connecting { why: None }, Some(saved.clone())).await;
    with.registry.0.send_replace(state.clone());
    let snapshot = with.until(|snapshot| snapshot.rejections.len() == 5).await;
    shows_all(&snapshot);
    // One that was made anew has no last good value, in the next run either.
    with.registry.delete("app/shop");
    with.registry.put("app/shop", "{");
    with.until(|snapshot| snapshot.registry_revision == state.revision + 2).await;
    with.cancel.cancel();
    with.task.await.unwrap();
    let kept = saved.load().unwrap().unwrap().entries;
    let keys: Vec<_> = kept.keys().map(Key::as_str).collect();
    assert_eq!(keys, ["operator/shop/v1/c1", "route/old", C1]);
}

#[tokio::test]
async fn a_registry_that_went_back_is_served_as_it_was_until_an_operator_accepts_it() {
    let mut running = start().await;
    running.registry.put(C1, "10.0.0.1:80");
    (0..5).for_each(|number| running.registry.put(&format!("vip/{number}"), "x"));
    running.until(|snapshot| snapshot.registry_revision == 6).await;
    running.registry.0.send_modify(|state| (state.revision, state.entries) = (1, imbl::OrdMap::new()));
    running.registry.put("service/address/blog/v1/c1", "10.0.0.2:80");
    let snapshot = running.until(|snapshot| snapshot.apps.contains_key("blog")).await;
    assert_eq!(addresses(&snapshot, "shop"), ["10.0.0.1:80"]);
    running.accepted.notify_one();
    running.until(|snapshot| snapshot.apps.len() == 1).await;
}

#[tokio::test]
async fn what_a_registry_has_lost_and_gets_back_bad_keeps_its_last_good_value() {
    let folder = tempfile::tempdir().unwrap();
    let saved = SavedFile { path: folder.path().join("saved"), registry: "zookeeper a:1".to_owned() };
    let mut running = start_with(Link::Connected { since: Instant::now() }, Some(saved.clone())).await;
    running.registry.put(C1, "10.0.0.1:80");
    running.registry.put("app/shop", r#"{"hosts": ["shop.de"]}"#);
    (0..5).for_each(|number| running.registry.put(&format!("vip/{number}"), "x"));
    running.until(|snapshot| snapshot.registry_revision == 7).await;
    running.registry.0.send_modify(|state| (state.revision, state.entries) = (1, imbl::OrdMap::new()));
    running.registry.put(C1, "10.0.0.1:80");
    running.registry.put("app/shop", "{");
    // Only what is doubted can be accepted.
    running.doubts.wait_for(|report| *report != Report::default()).await.unwrap();
    running.accepted.notify_one();
    let is_believed = |snapshot: &Snapshot| snapshot.registry_revision == 3 && snapshot.rejections.len() == 1;
    let snapshot = running.until(is_believed).await;
    assert_eq!(snapshot.apps["shop"].spec.hosts.len(), 1);
    // What was accepted is on the disk at once, and the next process neither doubts nor forgets.
    let is_saved = || saved.load().is_ok_and(|saved| saved.is_some_and(|saved| saved.revision == 3));
    while !is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state = running.registry.0.borrow().clone();
    let mut next = start_with(Link::Connecting { why: None }, Some(saved.clone())).await;
    next.registry.0.send_replace(state);
    let snapshot = next.until(is_believed).await;
    assert_eq!(snapshot.apps["shop"].spec.hosts.len(), 1);
}

#[tokio::test]
async fn an_operators_word_outlives_its_endpoint_and_holds_for_files_too() {
    let mut running = start().await;
    let word = "operator/shop/v1/c1";
    running.registry.put(word, r#"{"state": "drain", "weight": 3}"#);
    let snapshot = running.until(|snapshot| snapshot.words.contains_key("shop")).await;
    assert!(snapshot.apps.is_empty(), "a word makes no app");
    let drained = |snapshot: &Snapshot| {
        let app = snapshot.apps.get("shop")?;
        app.endpoints.first().map(|endpoint| (endpoint.word.state.as_str(), endpoint.effective_weight()))
    };
    for value in ["10.0.0.1:80", r#"{"address": "10.0.0.1:80", "weight": 9}"#] {
        running.registry.put(C1, value);
        running.until(|snapshot| drained(snapshot) == Some(("drain", 3))).await;
    }
    running.registry.delete(C1);
    running.until(|snapshot| snapshot.apps.is_empty() && snapshot.words.contains_key("shop")).await;
    running.save(
        "shop.toml",
        "id = \"shop\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"10.0.0.1:1\"\n",
    );
    running.until(|snapshot| drained(snapshot) == Some(("drain", 3))).await;
    running.registry.put(word, r#"{"state": "drained"}"#);
    let snapshot = running.until(|snapshot| !snapshot.rejections.is_empty()).await;
    assert_eq!(drained(&snapshot), Some(("drain", 3)), "the last good word stays");
    running.registry.delete(word);
    let snapshot = running.until(|snapshot| snapshot.words.is_empty()).await;
    assert_eq!((drained(&snapshot), snapshot.rejections.len()), (Some(("ready", 1)), 0));
    running.cancel.cancel();
    running.task.await.unwrap();
}
