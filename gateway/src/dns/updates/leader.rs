//! Which of several gateways writes to a server: whoever has the key `dns-update/{zone}` in the registry, for as long as its
//! session lives.
//!
//! Two that write for a moment, when a session has ended and its gateway does not know yet, do no harm: each update says
//! what must hold for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discovery::registry::{Expect, Key, Lifetime, Registry, RegistryError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const FAMILY: &str = "dns-update/";
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// For the last word, beside which nothing waits.
const FAREWELL: Duration = Duration::from_millis(500);

pub struct Candidate {
    registry: Arc<dyn Registry>,
    key: Key,
    value: Bytes,
}

impl Candidate {
    /// # Errors
    /// When the zone is no part of a key.
    pub fn new(registry: Arc<dyn Registry>, zone: &str, gateway_id: &str) -> Result<Self, RegistryError> {
        let key = Key::parse(&format!("{FAMILY}{}", zone.trim_end_matches('.')))?;
        // Two processes of one gateway are two, while one hands over to the other.
        let value = Bytes::from(format!("{gateway_id} {:016x}", fastrand::u64(..)));
        Ok(Self { registry, key, value })
    }

    /// Says on `leads` whether this is the one, until `cancel`.
    pub async fn run(self, leads: watch::Sender<bool>, cancel: CancellationToken) {
        let mut states = self.registry.watch();
        loop {
            let (is_connected, holder) = {
                let state = states.borrow_and_update();
                (state.link.is_connected(), state.entries.get(&self.key).cloned())
            };
            let is_ours = holder.as_ref().is_some_and(|entry| entry.ephemeral && entry.value == self.value);
            // Without the registry nobody knows who is the one.
            let is_leading = is_connected && is_ours;
            leads.send_if_modified(|known| std::mem::replace(known, is_leading) != is_leading);
            let pause = if is_connected && holder.is_none() { self.claim(&cancel).await } else { None };
            let waiting = async {
                // A registry that says nothing more ends with everything else.
                let _ = match pause {
                    Some(pause) => tokio::time::timeout(pause, states.changed()).await,
                    None => Ok(states.changed().await),
                };
            };
            if cancel.run_until_cancelled(waiting).await.is_none() {
                break;
            }
        }
        leads.send_replace(false);
        self.resign().await;
    }

    /// Returns after which time it is looked at again whatever happens.
    async fn claim(&self, cancel: &CancellationToken) -> Option<Duration> {
        let write = self.registry.write(&self.key, self.value.clone(), Expect::Absent, Lifetime::Session);
        match cancel.run_until_cancelled(write).await {
            // Seen when the watch shows it, as everybody else sees it.
            Some(Ok(_)) | None => Some(RETRY),
            Some(Err(error)) => {
                tracing::debug!(%error, key = %self.key, "is not claimed; it is tried again");
                Some(RETRY)
            }
        }
    }

    async fn resign(&self) {
        let held = self.registry.watch().borrow().entries.get(&self.key).cloned();
        let Some(held) = held.filter(|entry| entry.value == self.value) else { return };
        let farewell = self.registry.delete(&self.key, Expect::Version(held.version));
        // It ends with the session in any case.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
