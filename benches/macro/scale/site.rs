//! A registry of the size that is promised, written by a handle of our own: only what comes afterwards is measured.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use discovery::embedded::Embedded;
use discovery::etcd::{self, Etcd};
use discovery::registry::{Expect, Key, Lifetime, MAX_STEPS, Registry, Step};
use discovery::zookeeper::{self, ZooKeeper};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use tests::{Config, EtcdServer, ZooKeeperServer};

use super::endpoint::Endpoints;

/// Transactions under way at once.
const WRITERS: usize = 16;
/// For a registry to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub apps: u32,
    pub hosts_per_app: u32,
    pub endpoints_per_app: u32,
    /// How often each endpoint is probed.
    pub interval: &'static str,
}

impl Shape {
    pub fn hosts(self) -> u32 {
        self.apps * self.hosts_per_app
    }

    pub fn endpoints(self) -> u32 {
        self.apps * self.endpoints_per_app
    }

    fn steps(self, endpoints: &Endpoints) -> impl Iterator<Item = Step> {
        let specs = (0..self.apps).map(move |app| step(&format!("app/{}", name(app)), self.spec(app)));
        let all = (0..self.apps).flat_map(move |app| (0..self.endpoints_per_app).map(move |at| (app, at)));
        let addresses = all.map(move |(app, at)| {
            let address = endpoints.address(app * self.endpoints_per_app + at);
            step(&address_key(app, &format!("c{at}")), address.to_string())
        });
        specs.chain(addresses)
    }

    fn spec(self, app: u32) -> String {
        let hosts: Vec<_> = (0..self.hosts_per_app).map(|at| host(app, at)).collect();
        format!(r#"{{"hosts": {hosts:?}, "health": {{"interval": {:?}}}}}"#, self.interval)
    }
}

pub fn name(app: u32) -> String {
    format!("tenant-{app:05}")
}

pub fn host(app: u32, at: u32) -> String {
    format!("h{at}.{}.example.com", name(app))
}

pub fn address_key(app: u32, instance: &str) -> String {
    format!("service/address/{}/v1/{instance}", name(app))
}

fn step(key: &str, value: String) -> Step {
    let key = Key::parse(key).unwrap_or_else(|error| unreachable!("{error}"));
    Step { key, value: Some(value.into()), expect: Expect::Any }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    ZooKeeper,
    Etcd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::ZooKeeper => "zookeeper",
            Self::Etcd => "etcd",
        }
    }
}

/// Below which no gateway reads.
const ELSEWHERE: &str = "/elsewhere";

/// Where it is, and handles on it; none on an embedded one, which its gateway alone may open.
pub struct Site {
    /// Dropped before its server.
    handle: Option<Arc<dyn Registry>>,
    /// Of those who use the same registry for something else.
    others: Option<Arc<dyn Registry>>,
    place: Place,
}

enum Place {
    Embedded(TempDir),
    ZooKeeper(ZooKeeperServer),
    Etcd(EtcdServer),
}

impl Site {
    /// Full of `shape`.
    pub async fn fill(kind: Kind, shape: Shape, endpoints: &Endpoints) -> anyhow::Result<Self> {
        let place = match kind {
            Kind::Embedded => Place::Embedded(tempfile::tempdir()?),
            // Leaves some of the machine's memory to others.
            Kind::ZooKeeper => Place::ZooKeeper(ZooKeeperServer::start_with_heap("1g")),
            Kind::Etcd => Place::Etcd(EtcdServer::start()),
        };
        let handle = open(&place, None)?;
        let mut state = handle.watch();
        tokio::time::timeout(PATIENCE, state.wait_for(|state| state.link.is_connected())).await??;
        let steps: Vec<Step> = shape.steps(endpoints).collect();
        let handle_of = &handle;
        let writes = steps.chunks(MAX_STEPS).map(|chunk| async move { handle_of.transact(chunk).await });
        stream::iter(writes)
            .buffer_unordered(WRITERS)
            .try_collect::<Vec<_>>()
            .await
            .context("cannot fill it")?;
        let is_full = |state: &discovery::registry::State| state.entries.len() >= steps.len();
        tokio::time::timeout(PATIENCE, state.wait_for(is_full)).await??;
        if kind == Kind::Embedded {
            return Ok(Self { handle: None, others: None, place });
        }
        let others = open(&place, Some(ELSEWHERE))?;
        tokio::time::timeout(PATIENCE, others.watch().wait_for(|state| state.link.is_connected())).await??;
        Ok(Self { handle: Some(handle), others: Some(others), place })
    }

    /// A gateway on it.
    pub fn config(&self) -> Config {
        match &self.place {
            Place::Embedded(folder) => {
                Config::new().registry(&format!("kind = \"embedded\"\npath = {:?}\n", folder.path()))
            }
            Place::ZooKeeper(server) => Config::new().zookeeper(&server.address().to_string()),
            Place::Etcd(server) => Config::new().etcd(&server.address().to_string()),
        }
    }

    /// Where it is one.
    pub fn zookeeper(&mut self) -> Option<&mut ZooKeeperServer> {
        match &mut self.place {
            Place::ZooKeeper(server) => Some(server),
            Place::Embedded(_) | Place::Etcd(_) => None,
        }
    }

    /// Returns when the registry has it, with its revision then.
    pub async fn put(&self, key: &str, value: String) -> anyhow::Result<u64> {
        write(&self.handle, key, value).await
    }

    /// The same where no gateway reads.
    pub async fn put_elsewhere(&self, key: &str, value: String) -> anyhow::Result<u64> {
        write(&self.others, key, value).await
    }

    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let handle = self.handle.as_ref().context("an embedded registry is its gateway's")?;
        Ok(handle.delete(&Key::parse(key)?, Expect::Any).await?)
    }
}

async fn write(handle: &Option<Arc<dyn Registry>>, key: &str, value: String) -> anyhow::Result<u64> {
    let handle = handle.as_ref().context("an embedded registry is its gateway's")?;
    Ok(handle.write(&Key::parse(key)?, Bytes::from(value), Expect::Any, Lifetime::Persistent).await?)
}

/// `prefix`: another one than gateways have.
fn open(place: &Place, prefix: Option<&str>) -> anyhow::Result<Arc<dyn Registry>> {
    Ok(match place {
        Place::Embedded(folder) => Embedded::open(folder.path())?,
        Place::ZooKeeper(server) => {
            let mut settings = zookeeper::Settings::new(vec![server.address().to_string()]);
            settings.prefix = prefix.map_or(settings.prefix, str::to_owned);
            ZooKeeper::connect(settings)
        }
        Place::Etcd(server) => {
            let mut settings = etcd::Settings::new(vec![server.address().to_string()]);
            settings.prefix = prefix.map_or(settings.prefix, str::to_owned);
            Etcd::connect(settings)
        }
    })
}
