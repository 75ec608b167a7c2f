//! A registry to test, and handles on it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use discovery::embedded::Embedded;
use discovery::registry::{Entry, Expect, Key, Lifetime, Registry, RegistryError, State};
use discovery::zookeeper::{Settings, ZooKeeper};
use tempfile::TempDir;
use tests::{DEADLINE, ZooKeeperServer, eventually};
use tokio::runtime::Runtime;

/// Long against the pauses of a loaded machine, and within what the test server allows.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

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

pub fn connect(server: &str, session_timeout: Duration) -> Arc<ZooKeeper> {
    let _entered = RUNTIME.enter();
    ZooKeeper::connect(Settings { session_timeout, ..Settings::new(vec![server.to_owned()]) })
}

pub fn connected(server: &str, session_timeout: Duration) -> Arc<ZooKeeper> {
    let registry = connect(server, session_timeout);
    await_state(&*registry, "the link is up", |state| state.link.is_connected());
    registry
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
