//! A gateway on a ZooKeeper, and a client of that which is not ours.

use std::time::Duration;

use tests::{AnsweredAt, Config, DEADLINE, Gateway, Kazoo, KazooError, ZooKeeperServer, yields};

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

/// What kazoo raises when an answer did not come: nobody knows whether the write happened.
const UNANSWERED: [&str; 4] =
    ["ConnectionLoss", "ConnectionClosedError", "SessionExpiredError", "OperationTimeoutError"];
/// What a repeated create or delete meets when the first one did happen.
const HAPPENED: [&str; 2] = ["NodeExistsError", "NoNodeError"];

/// Writes until there is an answer: a busy machine costs the writer its session now and then, which is
/// no finding about the gateway.
///
/// # Errors
/// When ZooKeeper refuses.
pub fn insist(mut write: impl FnMut() -> Result<AnsweredAt, KazooError>) -> anyhow::Result<()> {
    let mut is_repeated = false;
    let refused = yields(DEADLINE, "ZooKeeper answers the writer", || match write() {
        Ok(_) => Some(None),
        Err(error) if is_one_of(&error, &UNANSWERED) => {
            is_repeated = true;
            None
        }
        Err(error) => Some((!(is_repeated && is_one_of(&error, &HAPPENED))).then_some(error)),
    });
    refused.map_or(Ok(()), |error| Err(anyhow::anyhow!(error.0)))
}

fn is_one_of(error: &KazooError, names: &[&str]) -> bool {
    names.iter().any(|name| error.0.starts_with(name))
}
