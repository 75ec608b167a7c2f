//! A registry to test, and handles on it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use discovery::embedded::Embedded;
use discovery::etcd::{self, Etcd};
use discovery::registry::{Entry, Expect, Key, Lifetime, Link, Registry, RegistryError, State};
use discovery::zookeeper::{self, ZooKeeper};
use tempfile::TempDir;
use tests::{CuttableProxy, DEADLINE, EtcdServer, ZooKeeperServer, eventually};
use tokio::runtime::Runtime;

/// Long against the pauses of a loaded machine, and within what the test server allows.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

/// Expires while a test waits for it, and not because a loaded machine paused a process.
pub const SHORT_SESSION: Duration = Duration::from_millis(1_500);

/// Where the handles live: their tasks run on while a test blocks its own thread.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime can be built"));

/// One registry and a handle on it.
pub trait Fixture {
    fn registry(&self) -> &Arc<dyn Registry>;
    /// Another handle on the same registry.
    fn another(&self) -> Arc<dyn Registry>;
    /// Ends the session of [`Fixture::registry`] and begins another.
    fn renew_session(&mut self);
}

pub struct EmbeddedFixture {
    folder: TempDir,
    registry: Option<Arc<dyn Registry>>,
}

impl EmbeddedFixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Embedded::open(folder.path()).unwrap();
        Self { folder, registry: Some(registry) }
    }
}

impl Fixture for EmbeddedFixture {
    fn registry(&self) -> &Arc<dyn Registry> {
        self.registry.as_ref().unwrap()
    }

    fn another(&self) -> Arc<dyn Registry> {
        Arc::clone(self.registry())
    }

    fn renew_session(&mut self) {
        self.registry = None;
        self.registry = Some(Embedded::open(self.folder.path()).unwrap());
    }
}

pub struct ZooKeeperFixture {
    registry: Arc<dyn Registry>,
    // Dropped after the handle.
    server: ZooKeeperServer,
}

impl ZooKeeperFixture {
    pub fn new() -> Self {
        let server = ZooKeeperServer::start();
        let registry = connected(&server.address().to_string(), SESSION_TIMEOUT);
        Self { registry, server }
    }
}

impl Fixture for ZooKeeperFixture {
    fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    fn another(&self) -> Arc<dyn Registry> {
        connected(&self.server.address().to_string(), SESSION_TIMEOUT)
    }

    fn renew_session(&mut self) {
        self.registry = self.another();
    }
}

pub struct EtcdFixture {
    registry: Arc<dyn Registry>,
    // Dropped after the handle.
    server: EtcdServer,
}

impl EtcdFixture {
    pub fn new() -> Self {
        let server = EtcdServer::start();
        let registry = connected_to_etcd(&server.address().to_string(), SESSION_TIMEOUT);
        Self { registry, server }
    }
}

impl Fixture for EtcdFixture {
    fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    fn another(&self) -> Arc<dyn Registry> {
        connected_to_etcd(&self.server.address().to_string(), SESSION_TIMEOUT)
    }

    fn renew_session(&mut self) {
        self.registry = self.another();
    }
}

pub fn connect(server: &str, session_timeout: Duration) -> Arc<ZooKeeper> {
    connect_as(zookeeper::Settings { session_timeout, ..zookeeper::Settings::new(vec![server.to_owned()]) })
}

pub fn connect_as(settings: zookeeper::Settings) -> Arc<ZooKeeper> {
    let _entered = RUNTIME.enter();
    ZooKeeper::connect(settings)
}

pub fn connected(server: &str, session_timeout: Duration) -> Arc<ZooKeeper> {
    let registry = connect(server, session_timeout);
    await_link(&*registry);
    registry
}

pub fn connect_to_etcd(servers: &[&str], session_timeout: Duration) -> Arc<Etcd> {
    let servers = servers.iter().map(|&server| server.to_owned()).collect();
    connect_to_etcd_as(etcd::Settings { session_timeout, ..etcd::Settings::new(servers) })
}

pub fn connect_to_etcd_as(settings: etcd::Settings) -> Arc<Etcd> {
    let _entered = RUNTIME.enter();
    Etcd::connect(settings)
}

pub fn connected_to_etcd(server: &str, session_timeout: Duration) -> Arc<Etcd> {
    let registry = connect_to_etcd(&[server], session_timeout);
    await_link(&*registry);
    registry
}

#[track_caller]
pub fn await_link(registry: &dyn Registry) {
    await_state(registry, "the link is up", |state| state.link.is_connected());
}

#[track_caller]
pub fn await_loss(registry: &dyn Registry) {
    await_state(registry, "the link is lost", |state| matches!(state.link, Link::Lost { .. }));
}

pub fn may_have_happened(result: Result<u64, RegistryError>) -> bool {
    match result {
        Err(RegistryError::Failed { may_have_happened, .. }) => may_have_happened,
        other => panic!("{other:?}"),
    }
}

/// Cuts the connection of `unlucky` while it writes. Whether that hits the write or what comes before it is
/// chance; what it is told must fit, by what `registry` sees.
#[track_caller]
pub fn cut_amid_writes(registry: &dyn Registry, unlucky: &dyn Registry, proxy: &CuttableProxy) {
    let writes: Vec<_> = (0..200).map(|n| key(&format!("app/a{n}"))).collect();
    let results = run(async {
        let cut = async {
            tokio::task::yield_now().await;
            proxy.cut();
        };
        let writes = writes
            .iter()
            .map(|key| unlucky.write(key, Bytes::from_static(b"1"), Expect::Absent, Lifetime::Persistent));
        futures::join!(futures::future::join_all(writes), cut).0
    });
    for (key, result) in writes.iter().zip(results) {
        let present = run(registry.read(key)).unwrap().is_some();
        match result {
            Ok(_) => assert!(present, "{key} was acknowledged"),
            Err(RegistryError::Failed { may_have_happened: true, .. }) => {}
            Err(error) => assert!(!present, "{key} is there after {error:?}"),
        }
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

pub fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub fn write(
    registry: &dyn Registry,
    path: &str,
    value: &'static str,
    expect: Expect,
) -> Result<u64, RegistryError> {
    let value = Bytes::from_static(value.as_bytes());
    run(registry.write(&key(path), value, expect, Lifetime::Persistent))
}

pub fn write_for_session(
    registry: &dyn Registry,
    path: &str,
    value: &'static str,
) -> Result<u64, RegistryError> {
    let value = Bytes::from_static(value.as_bytes());
    run(registry.write(&key(path), value, Expect::Any, Lifetime::Session))
}

pub fn read(registry: &dyn Registry, path: &str) -> Option<Entry> {
    run(registry.read(&key(path))).unwrap()
}

pub fn state(registry: &dyn Registry) -> State {
    registry.watch().borrow().clone()
}

/// All keys of the state with their values as text.
pub fn contents(state: &State) -> Vec<(String, String)> {
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
    state.entries.iter().map(|(key, entry)| (key.to_string(), text(entry))).collect()
}

#[track_caller]
pub fn await_state(registry: &dyn Registry, what: &str, condition: impl Fn(&State) -> bool) {
    eventually(DEADLINE, what, || condition(&state(registry)));
}

#[track_caller]
pub fn await_value(registry: &dyn Registry, path: &str, value: Option<&str>) {
    await_state(registry, &format!("{path} is {value:?}"), |state| {
        state.entries.get(path).map(|entry| &entry.value[..]) == value.map(str::as_bytes)
    });
}

pub fn is_conflict<T>(result: &Result<T, RegistryError>) -> bool {
    matches!(result, Err(RegistryError::Conflict { .. }))
}
