//! A gateway on a ZooKeeper, and a client of that which is not ours.

use std::time::Duration;

use tests::{Config, Gateway, Kazoo, ZooKeeperServer};

/// The host of the app `shop`, as the harness's configuration names it.
pub const HOST: &str = "shop.apps.test";
/// The longest that the harness's server grants.
const SESSION: Duration = Duration::from_secs(4);

/// Dropped in this order, so that nobody logs the end of another.
pub struct Fleet {
    pub kazoo: Kazoo,
    pub gateway: Gateway,
    pub server: ZooKeeperServer,
}

impl Fleet {
    /// With the files that `config` has, on an empty ZooKeeper.
    pub fn start(config: Config) -> Self {
        let server = ZooKeeperServer::start();
        let gateway = Gateway::start(&config.zookeeper(&server.address().to_string()));
        let kazoo = Kazoo::connect(&server, SESSION);
        Self { kazoo, gateway, server }
    }
}

pub fn node(app: &str, instance: &str) -> String {
    format!("/caas/service/address/{app}/v1/{instance}")
}
