//! A real registry of either kind, and a client of it that is not ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::{
    Config, DEADLINE, Endpoint, EtcdServer, Gateway, Kazoo, KazooError, ZooKeeperServer, eventually,
};

pub const HOST: &str = "shop.apps.test";
/// The first probe after a recovery, and the backoff before it.
pub const RECOVERY: Duration = Duration::from_secs(30);
/// The longest that the harness's ZooKeeper grants.
const SESSION: Duration = Duration::from_secs(4);
/// Of a client that must not wait for a server that is gone.
const ANSWER: Duration = Duration::from_secs(1);
const STORM: usize = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ZooKeeper,
    Etcd,
}

pub enum Store {
    ZooKeeper { client: Option<Kazoo>, server: ZooKeeperServer },
    Etcd(EtcdServer),
}

impl Store {
    pub fn start(kind: Kind) -> Self {
        Self::start_at(kind, Ipv4Addr::LOCALHOST.into())
    }

    /// At an address of the network namespace that the calling thread is in.
    pub fn start_at(kind: Kind, ip: IpAddr) -> Self {
        match kind {
            Kind::ZooKeeper => {
                let mut store = Self::ZooKeeper { client: None, server: ZooKeeperServer::start_at(ip) };
                store.connect();
                store
            }
            Kind::Etcd => Self::Etcd(EtcdServer::cluster_at(ip, 1).remove(0)),
        }
    }

    /// A new client: servers that have lost what the former one saw do not talk to that.
    fn connect(&mut self) {
        if let Self::ZooKeeper { client, server } = self {
            if let Some(former) = client.take() {
                former.crash();
            }
            *client = Some(Kazoo::connect_to(&[server.address()], SESSION, ANSWER));
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::ZooKeeper { server, .. } => server.address(),
            Self::Etcd(server) => server.address(),
        }
    }

    /// A gateway on this registry, found at `address`, that saves in its own folder.
    pub fn config(&self, address: SocketAddr) -> Config {
        let kind = match self {
            Self::ZooKeeper { .. } => "zookeeper",
            Self::Etcd(_) => "etcd",
        };
        Config::new().registry(&format!(
            "kind = {kind:?}\nservers = [\"{address}\"]\nprefix = \"/caas\"\nsession_timeout = \"4s\"\nsaved = \"saved\"\n"
        ))
    }

    /// Writes until the servers have answered.
    #[track_caller]
    pub fn put(&mut self, key: &str, value: &str) {
        let path = format!("/caas/{key}");
        eventually(RECOVERY, "the registry takes a write", || match self {
            Self::ZooKeeper { client, .. } => {
                let client = client.as_mut().unwrap();
                match client.set(&path, value.as_bytes()) {
                    Err(KazooError(error)) if error.starts_with("NoNodeError") => {
                        client.create(&path, value.as_bytes(), false).is_ok()
                    }
                    answer => answer.is_ok(),
                }
            }
            Self::Etcd(server) => server.try_ctl(&["put", &path, value]).code == Some(0),
        });
    }

    #[track_caller]
    pub fn delete(&mut self, key: &str) {
        let path = format!("/caas/{key}");
        eventually(RECOVERY, "the registry takes a write", || match self {
            Self::ZooKeeper { client, .. } => match client.as_mut().unwrap().delete(&path) {
                Err(KazooError(error)) => error.starts_with("NoNodeError"),
                Ok(_) => true,
            },
            Self::Etcd(server) => server.try_ctl(&["del", &path]).code == Some(0),
        });
    }

    #[track_caller]
    pub fn register(&mut self, instance: &str, endpoint: &Endpoint) {
        self.put(&address("shop", instance), &endpoint.address().to_string());
    }

    /// Writes the key thousands of times, as fast as it can, the last time with `value`.
    pub fn storm(&mut self, key: &str, value: &str) {
        let path = format!("/caas/{key}");
        match self {
            Self::ZooKeeper { client, .. } => {
                client.as_mut().unwrap().storm(&path, value.as_bytes(), STORM).unwrap();
            }
            Self::Etcd(server) => {
                // A transaction writes a key once: many keys beside it make up for that.
                let others: String = (0..100).map(|at| format!("put /caas/app/s{at} {{}}\n")).collect();
                let puts = format!("\nput {path} {value:?}\n{others}\n\n");
                for _ in 0..STORM / 100 {
                    assert_eq!(server.try_ctl_with(&["txn"], &puts).code, Some(0));
                }
            }
        }
    }

    pub fn kill(&mut self) {
        match self {
            Self::ZooKeeper { server, .. } => server.kill(),
            Self::Etcd(server) => server.kill(),
        }
    }

    pub fn restart(&mut self) {
        match self {
            Self::ZooKeeper { server, .. } => server.restart(),
            Self::Etcd(server) => server.restart(),
        }
    }

    /// Down, with a copy of all that it has, and up again.
    pub fn keep_data(&mut self) {
        match self {
            Self::ZooKeeper { server, .. } => server.keep_data(),
            Self::Etcd(server) => server.keep_data(),
        }
        self.restart();
    }

    /// Down, and up again with what it had when that was kept.
    pub fn return_to_kept(&mut self) {
        match self {
            Self::ZooKeeper { server, .. } => server.return_to_kept(),
            Self::Etcd(server) => server.return_to_kept(),
        }
        self.restart();
        self.connect();
    }

    /// Down, and up again with nothing.
    pub fn lose_data(&mut self) {
        match self {
            Self::ZooKeeper { server, .. } => server.lose_data(),
            Self::Etcd(server) => server.lose_data(),
        }
        self.restart();
        self.connect();
    }
}

pub fn address(app: &str, instance: &str) -> String {
    format!("service/address/{app}/v1/{instance}")
}

/// Waits until exactly these answer.
#[track_caller]
pub fn answers_from(gateway: &Gateway, ids: &[&str]) {
    let mut client = gateway.connect();
    eventually(RECOVERY, &format!("exactly {ids:?} answer"), || {
        let answers: Vec<String> = (0..12).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().all(|answer| ids.contains(&answer.as_str()))
            && ids.iter().all(|id| answers.iter().any(|answer| answer == id))
    });
}

#[track_caller]
pub fn await_link(gateway: &Gateway, is_connected: bool) {
    let wanted = Some(if is_connected { 1.0 } else { 0.0 });
    eventually(RECOVERY, "the metric tells of the link", || {
        gateway.metrics().sum("sluice_registry_connected", &[]) == wanted
    });
}

/// Waits until the last good entries are on the disk, `text` among them.
#[track_caller]
pub fn await_saved(gateway: &Gateway, text: &str) {
    let path = gateway.folder().join("saved");
    eventually(DEADLINE * 2, "the last good entries are saved", || {
        std::fs::read_to_string(&path).is_ok_and(|saved| saved.contains(text))
    });
}
