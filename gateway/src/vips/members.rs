//! Which gateways there are for virtual IPs: `vip-member/{gatewayId}`, for as long as its session lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discovery::registry::{Expect, Key, Lifetime, Registry, RegistryError, State};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vip::driver::{Member, Members};
use vip::identity::GatewayId;

const FAMILY: &str = "vip-member/";
/// More gateways than any link has. Each costs every address a heartbeat.
const MAX_MEMBERS: usize = 256;
/// As many as a gateway may have addresses.
const MAX_WEIGHTS: usize = 256;
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// For the last word, beside which nothing waits.
const FAREWELL: Duration = Duration::from_millis(500);

/// What stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Where peer messages are received.
    address: SocketAddr,
    /// By address, where it is not 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    weights: BTreeMap<IpAddr, u32>,
}

/// This gateway's own key.
pub struct Membership {
    registry: Arc<dyn Registry>,
    key: Key,
    value: Bytes,
}

impl Membership {
    /// # Errors
    /// When the id is no part of a key.
    pub fn new(
        registry: Arc<dyn Registry>,
        id: &GatewayId,
        address: SocketAddr,
        weights: BTreeMap<IpAddr, u32>,
    ) -> Result<Self, RegistryError> {
        let key = Key::parse(&format!("{FAMILY}{id}"))?;
        let value = Bytes::from(serde_json::to_vec(&Entry { address, weights }).unwrap_or_default());
        Ok(Self { registry, key, value })
    }

    /// Has the key be there until `cancel`, and takes it away then.
    pub async fn keep(self, cancel: CancellationToken) {
        let mut states = self.registry.watch();
        let mut has_failed = false;
        loop {
            let is_there = {
                let state = states.borrow_and_update();
                // While the registry is away nothing is known, and nothing can be done.
                !state.link.is_connected()
                    || state
                        .entries
                        .get(&self.key)
                        .is_some_and(|entry| entry.ephemeral && entry.value == self.value)
            };
            let waited = if is_there {
                cancel.run_until_cancelled(states.changed()).await.map(|changed| changed.is_ok())
            } else {
                let write =
                    self.registry.write(&self.key, self.value.clone(), Expect::Any, Lifetime::Session);
                match cancel.run_until_cancelled(write).await {
                    Some(Ok(version)) => {
                        has_failed = false;
                        let seen = states.wait_for(|state| {
                            let entry = state.entries.get(&self.key);
                            !state.link.is_connected() || entry.is_some_and(|entry| entry.version >= version)
                        });
                        // One that somebody else has changed meanwhile is looked at again soon enough.
                        cancel
                            .run_until_cancelled(tokio::time::timeout(RETRY, seen))
                            .await
                            .map(|seen| !matches!(seen, Ok(Err(_))))
                    }
                    Some(Err(error)) => {
                        if !std::mem::replace(&mut has_failed, true) {
                            tracing::warn!(%error, "peers do not learn of this gateway: its key is not written; it is tried again");
                        }
                        cancel.run_until_cancelled(tokio::time::sleep(RETRY)).await.map(|()| true)
                    }
                    None => None,
                }
            };
            if waited != Some(true) {
                break;
            }
        }
        let farewell = self.registry.delete(&self.key, Expect::Any);
        if !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!(key = %self.key, "peers learn by the session's end that this gateway is gone");
        }
    }
}

/// Follows all members until `cancel`.
pub async fn follow(
    mut states: watch::Receiver<State>,
    members: watch::Sender<Members>,
    cancel: CancellationToken,
) {
    loop {
        let found = read(&states.borrow_and_update());
        members.send_if_modified(|known| {
            let differs = **known != found;
            if differs {
                *known = Arc::new(found);
            }
            differs
        });
        if !matches!(cancel.run_until_cancelled(states.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

/// What is no member is passed over.
fn read(state: &State) -> BTreeMap<GatewayId, Member> {
    let from = (Bound::Included(FAMILY), Bound::Unbounded);
    let entries = state.entries.range::<_, str>(from);
    let entries = entries.take_while(|(key, _)| key.as_str().starts_with(FAMILY)).take(MAX_MEMBERS);
    let members = entries.filter_map(|(key, entry)| {
        let id = GatewayId::parse(key.as_str().strip_prefix(FAMILY)?).ok()?;
        let Entry { address, weights } = serde_json::from_slice(&entry.value).ok()?;
        let is_reachable =
            !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0;
        let fits = is_reachable
            && weights.len() <= MAX_WEIGHTS
            && weights.values().all(|weight| (1..=1000).contains(weight));
        fits.then_some((id, Member { address, weights }))
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use discovery::embedded::Embedded;

    use super::*;

    fn id(name: &str) -> GatewayId {
        GatewayId::parse(name).unwrap()
    }

    async fn started(registry: &Arc<Embedded>) -> watch::Receiver<Members> {
        let (sender, members) = watch::channel(Members::default());
        tokio::spawn(follow(registry.watch(), sender, CancellationToken::new()));
        members
    }

    #[tokio::test]
    async fn a_member_is_seen_until_it_leaves_and_comes_back_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Embedded::open(dir.path()).unwrap();
        let mut members = started(&registry).await;
        let weights = BTreeMap::from([("10.0.0.200".parse().unwrap(), 3)]);
        let address = "10.0.0.1:7001".parse().unwrap();
        let own = Membership::new(registry.clone(), &id("gw-1"), address, weights.clone()).unwrap();
        let cancel = CancellationToken::new();
        let keeping = tokio::spawn(own.keep(cancel.clone()));
        let member = Member { address, weights };
        let is_there = |members: &Members| members.get(&id("gw-1")) == Some(&member);
        members.wait_for(is_there).await.unwrap();
        let key = Key::parse("vip-member/gw-1").unwrap();
        let written = registry.read(&key).await.unwrap().unwrap();
        assert!(written.ephemeral);
        // By an operator's mistake.
        registry.delete(&key, Expect::Any).await.unwrap();
        let mut states = registry.watch();
        let is_anew =
            |state: &State| state.entries.get(&key).is_some_and(|entry| entry.version != written.version);
        states.wait_for(is_anew).await.unwrap();
        members.wait_for(is_there).await.unwrap();
        cancel.cancel();
        keeping.await.unwrap();
        members.wait_for(|members| members.is_empty()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_member_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Embedded::open(dir.path()).unwrap();
        for (name, value) in [
            ("a", "nonsense"),
            ("b", r#"{"address": "0.0.0.0:7001"}"#),
            ("c", r#"{"address": "10.0.0.1:0"}"#),
            ("d", r#"{"address": "10.0.0.1:7001", "weights": {"10.0.0.200": 0}}"#),
            ("e f", r#"{"address": "10.0.0.1:7001"}"#),
            ("g/h", r#"{"address": "10.0.0.1:7001"}"#),
            ("good", r#"{"address": "10.0.0.2:7001", "later": true}"#),
        ] {
            let key = Key::parse(&format!("vip-member/{name}")).unwrap();
            registry.write(&key, Bytes::from(value), Expect::Any, Lifetime::Persistent).await.unwrap();
        }
        let mut members = started(&registry).await;
        let found = members.wait_for(|members| !members.is_empty()).await.unwrap().clone();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&id("good")]);
    }
}
