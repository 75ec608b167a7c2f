//! What the engine asks of others.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use topology::{AppId, HostId, InstanceKey, VersionId};

use crate::autoscale::Load;
use crate::lifecycle::Complaint;
use crate::model::{Host, Millis, Probe};
use crate::rollout::Traffic;
use crate::runtime::Runtime;

/// What gateways have applied, and what passes through them. The first question is the one that everything hangs on.
#[async_trait]
pub trait Gateways: Send + Sync + 'static {
    /// Whether every gateway has in force, or has rejected, every change of an app up to this revision of the registry. A
    /// gateway that has lost its session serves on with what it has: whoever answers has to wait for it, as long as it may be
    /// there. Where no gateway ever was: yes.
    fn has_applied(&self, revision: u64) -> bool;

    /// Requests under way to an instance, of all gateways; `None` where one of them does not say.
    async fn in_flight(&self, app: &AppId, instance: &InstanceKey) -> Option<u64>;

    /// What a version's requests looked like since then; `None` where nobody can say.
    fn traffic(&self, app: &AppId, version: &VersionId, since: Millis) -> Option<Traffic>;

    /// What an app's instances bear.
    fn load(&self, app: &AppId) -> Load;

    /// What a gateway says of an instance that keeps failing its probes now; `None`: nothing, or that leaving it out is enough.
    fn complaint(&self, app: &AppId, instance: &InstanceKey) -> Option<Complaint>;
}

/// Asks an instance whether it can take requests: one attempt, within the probe's timeout.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// # Errors
    /// What was in the way, for people.
    async fn probe(&self, address: SocketAddr, protocol: &str, probe: &Probe) -> Result<(), String>;
}

/// The runtimes of the hosts.
pub trait Hosts: Send + Sync + 'static {
    /// Called often: whoever implements it keeps what it has made. Does not ask the host.
    ///
    /// # Errors
    /// Why there can be none, for people: an endpoint that is none, a key that cannot be read.
    fn runtime(&self, id: &HostId, host: &Host) -> Result<Arc<dyn Runtime>, String>;
}

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The system's.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
