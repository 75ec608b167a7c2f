//! Where the documents stand, below the registry's prefix.
//!
//! | key | what | written by |
//! | --- | --- | --- |
//! | `deploy/{app}` | a [`Deployment`](super::Deployment): what is wanted | operators, through the API |
//! | `rollout/{app}` | a [`Rollout`](super::Rollout): how far it is | the engine; every decision about the app is conditional on it |
//! | `instance/{app}/{instance}` | a [`Record`](super::Record): what was planned, and whether its address is ours | the engine |
//! | `port/{host}/{port}` | `{app}/{instance}` that has claimed it; created only if absent | the engine |
//! | `host/{host}` | a [`Host`](super::Host) | operators |
//! | `allocation/{host}` | a [`Ledger`](super::Ledger): what is given out of the host | the engine; makes placements of different apps exclude each other |
//! | `config/{app}` | sealed: values for secrets and files | operators, through the API |
//! | `operation/{app}` | [`Operations`](super::Operations): what was asked of the app, written with what was asked for | the API; the engine adds how each ended |
//! | `claim/{app}` | which engine works on it, as long as its session lasts; saves work, never safety | the engine |

use discovery::registry::Key;
use topology::{AppId, HostId, InstanceId};

fn key(path: &str) -> Key {
    Key::parse(path).expect("ids are path segments, and a few of their length fit into a key")
}

pub fn deployment(app: &AppId) -> Key {
    key(&format!("deploy/{app}"))
}

pub fn rollout(app: &AppId) -> Key {
    key(&format!("rollout/{app}"))
}

pub fn instance(app: &AppId, instance: &InstanceId) -> Key {
    key(&format!("instance/{app}/{instance}"))
}

pub fn port(host: &HostId, port: u16) -> Key {
    key(&format!("port/{host}/{port}"))
}

pub fn host(host: &HostId) -> Key {
    key(&format!("host/{host}"))
}

pub fn allocation(host: &HostId) -> Key {
    key(&format!("allocation/{host}"))
}

pub fn config(app: &AppId) -> Key {
    key(&format!("config/{app}"))
}

pub fn operations(app: &AppId) -> Key {
    key(&format!("operation/{app}"))
}

pub fn claim(app: &AppId) -> Key {
    key(&format!("claim/{app}"))
}

/// A key of one of the families above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Deployment(AppId),
    Rollout(AppId),
    Instance(AppId, InstanceId),
    Port(HostId, u16),
    Host(HostId),
    Allocation(HostId),
    Config(AppId),
    Operations(AppId),
    Claim(AppId),
}

impl Place {
    /// `None` for every other key, and for one of these families with a name that nobody can have.
    pub fn of(key: &Key) -> Option<Self> {
        let mut segments = key.segments();
        let path: [Option<&str>; 4] = std::array::from_fn(|_| segments.next());
        let app = |text: &str| AppId::parse(text).ok();
        let host = |text: &str| HostId::parse(text).ok();
        match path {
            [Some("deploy"), Some(id), None, _] => app(id).map(Self::Deployment),
            [Some("rollout"), Some(id), None, _] => app(id).map(Self::Rollout),
            [Some("config"), Some(id), None, _] => app(id).map(Self::Config),
            [Some("operation"), Some(id), None, _] => app(id).map(Self::Operations),
            [Some("claim"), Some(id), None, _] => app(id).map(Self::Claim),
            [Some("host"), Some(id), None, _] => host(id).map(Self::Host),
            [Some("allocation"), Some(id), None, _] => host(id).map(Self::Allocation),
            [Some("instance"), Some(id), Some(instance), None] => {
                Some(Self::Instance(app(id)?, InstanceId::parse(instance).ok()?))
            }
            [Some("port"), Some(id), Some(port), None] => Some(Self::Port(host(id)?, port.parse().ok()?)),
            _ => None,
        }
    }
}
