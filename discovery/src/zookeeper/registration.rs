//! The [`Lifetime::Session`] keys that this process holds. A session ends when the servers did not hear
//! from it, which is no reason to end the registration: the next session makes it again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use tokio::sync::{RwLock, RwLockReadGuard};
use zookeeper_client::{Client, Error};

use super::node::{Root, unsigned};
use super::tree::IN_FLIGHT;
use super::write::{Failure, MAX_ATTEMPTS, Target};
use crate::registry::{Expect, Key, Lifetime};

/// Sessions of ours that the servers may still count as alive, because they have not heard of their end.
/// Each lasts a session timeout at most, and we make one a second at most after the first few.
const MAX_FORMER_SESSIONS: usize = 32;

#[derive(Default)]
pub(super) struct Registrations {
    /// Held shared by each change of ours, from its request to the bookkeeping of its answer; held alone
    /// while registrations are made again. So neither sees the other half done.
    restoring: RwLock<()>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<Key, Registration>,
    /// Oldest first, the current one last.
    sessions: VecDeque<i64>,
}

pub(super) struct Registration {
    value: Bytes,
    session: i64,
    /// It was read back from the registry since it was written.
    seen: bool,
}

impl Registrations {
    pub(super) async fn pause_restoring(&self) -> RwLockReadGuard<'_, ()> {
        self.restoring.read().await
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_session(&self, session: i64) {
        let mut held = self.held();
        if held.sessions.len() == MAX_FORMER_SESSIONS {
            held.sessions.pop_front();
        }
        held.sessions.push_back(session);
    }

    pub(super) fn keep(&self, key: &Key, value: Bytes, session: i64) {
        self.hold(key, Registration { value, session, seen: false });
    }

    pub(super) fn hold(&self, key: &Key, registration: Registration) {
        self.held().keys.insert(key.clone(), registration);
    }

    pub(super) fn release(&self, key: &Key) -> Option<Registration> {
        self.held().keys.remove(key)
    }

    /// Who owns the key by a read of the registry; `None`: it does not exist. What somebody else removed
    /// or took over while our session lived is not ours to make again. A read from before our own write
    /// must not count, hence `seen`.
    pub(super) fn observe(&self, key: &Key, owner: Option<i64>) {
        let mut held = self.held();
        let current = held.sessions.back().copied();
        let Some(registration) = held.keys.get_mut(key) else { return };
        if Some(registration.session) != current {
            return;
        }
        if owner == current {
            registration.seen = true;
        } else if registration.seen {
            held.keys.remove(key);
            tracing::info!(%key, "somebody else removed our registration");
        }
    }

    /// Keys to look up after a read of everything, which does not name what is absent.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.held().keys.keys().cloned().collect()
    }

    /// Makes those of former sessions again in this one.
    pub(super) async fn restore(&self, client: &Client, root: &Root) -> Result<(), Failure> {
        let session = client.session_id().0;
        let _alone = self.restoring.write().await;
        let lost: Vec<_> = {
            let held = self.held();
            let lost = held.keys.iter().filter(|(_, registration)| registration.session != session);
            lost.map(|(key, registration)| (key.clone(), registration.value.clone())).collect()
        };
        if lost.is_empty() {
            return Ok(());
        }
        let count = lost.len();
        futures::stream::iter(lost)
            .map(|(key, value)| self.restore_one(client, root, key, value))
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        tracing::info!(count, "registered again what the expired session held");
        Ok(())
    }

    async fn restore_one(&self, client: &Client, root: &Root, key: Key, value: Bytes) -> Result<(), Failure> {
        let target = Target::new(&key, root.path(&key));
        match self.take(client, &target, &value).await {
            Ok(true) => self.keep(&key, value, client.session_id().0),
            Ok(false) => {
                tracing::warn!(%key, "not registered again: somebody else has the key");
                self.release(&key);
            }
            // These are the key's own fault, and would be again.
            Err(Failure::Client(
                error @ (Error::NoAuth | Error::NotEmpty | Error::NoChildrenForEphemerals),
            )) => {
                tracing::warn!(%key, %error, "not registered again");
                self.release(&key);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Whether the key is this session's now, or somebody else's.
    async fn take(&self, client: &Client, target: &Target, value: &[u8]) -> Result<bool, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let expect = match target.stat(client).await? {
                None => Expect::Absent,
                // An earlier session of ours that the servers still keep: as it is, the key would go when
                // they notice.
                Some(stat) if self.held().sessions.contains(&stat.ephemeral_owner) => {
                    Expect::Version(unsigned(stat.mzxid))
                }
                Some(_) => return Ok(false),
            };
            match target.put(client, value, expect, Lifetime::Session).await {
                // The earlier session ended in between, or somebody made the key: look again.
                Err(Failure::Conflict(_)) => {}
                outcome => return outcome.map(|_| true),
            }
        }
        Err(Failure::Contended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("service/address/shop/v1/c1").unwrap()
    }

    fn registered(session: i64) -> Registrations {
        let registrations = Registrations::default();
        registrations.begin_session(session);
        registrations.keep(&key(), Bytes::from_static(b"10.0.0.1:80"), session);
        registrations
    }

    #[test]
    fn a_registration_that_an_operator_removed_is_not_made_again() {
        let registrations = registered(1);
        registrations.observe(&key(), Some(1));
        registrations.observe(&key(), None);
        assert!(registrations.keys().is_empty());
    }

    #[test]
    fn a_registration_that_somebody_took_over_is_theirs() {
        let registrations = registered(1);
        registrations.observe(&key(), Some(1));
        registrations.observe(&key(), Some(2));
        assert!(registrations.keys().is_empty());
    }

    #[test]
    fn a_read_from_before_the_write_removes_nothing() {
        let registrations = registered(1);
        registrations.observe(&key(), None);
        assert_eq!(registrations.keys(), [key()]);
    }

    #[test]
    fn what_went_with_the_session_stays_registered() {
        let registrations = registered(1);
        registrations.observe(&key(), Some(1));
        registrations.begin_session(2);
        registrations.observe(&key(), None);
        assert_eq!(registrations.keys(), [key()]);
    }
}
