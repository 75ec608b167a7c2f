//! The [`Lifetime::Session`](crate::registry::Lifetime::Session) keys that this process holds. A session ends when the servers did not hear
//! from it, which is no reason to end the registration: the next session makes it again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::StreamExt;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::IN_FLIGHT;
use crate::registry::Key;

/// Sessions of ours that the servers may still count as alive, because they have not heard of their end.
/// Each lasts a session timeout at most, and we make one a second at most after the first few.
const MAX_FORMER_SESSIONS: usize = 32;

#[derive(Default)]
pub(crate) struct Registrations {
    /// Held shared by each change of ours, from its request to the bookkeeping of its answer; held alone
    /// while registrations are made again. So neither sees the other half done.
    restoring: RwLock<()>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<Key, Registration>,
    /// ZooKeeper's sessions or etcd's leases, oldest first, the current one last.
    sessions: VecDeque<i64>,
}

pub(crate) struct Registration {
    value: Bytes,
    session: i64,
    /// It was read back from the registry since it was written.
    seen: bool,
}

/// A key that is about to be written.
pub(crate) struct Claim<'r> {
    registrations: &'r Registrations,
    key: Key,
    former: Option<Registration>,
    confirmed: bool,
}

impl Claim<'_> {
    pub(crate) fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.confirmed {
            return;
        }
        match self.former.take() {
            Some(former) => self.registrations.hold(&self.key, former),
            None => _ = self.registrations.release(&self.key),
        }
    }
}

impl Registrations {
    pub(crate) async fn pause_restoring(&self) -> RwLockReadGuard<'_, ()> {
        self.restoring.read().await
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current one may begin again.
    pub(crate) fn begin_session(&self, session: i64) {
        let mut held = self.held();
        if held.sessions.back() == Some(&session) {
            return;
        }
        if held.sessions.len() == MAX_FORMER_SESSIONS {
            held.sessions.pop_front();
        }
        held.sessions.push_back(session);
    }

    fn keep(&self, key: &Key, value: Bytes, session: i64) {
        self.hold(key, Registration { value, session, seen: false });
    }

    /// Holds the key from now on: news of what is about to be written may be quicker than the answer to it. Unless
    /// that is [`Claim::confirm`]ed, what was held before is held again.
    pub(crate) fn claim(&self, key: &Key, value: Bytes, session: i64) -> Claim<'_> {
        let claimed = Registration { value, session, seen: false };
        let former = self.held().keys.insert(key.clone(), claimed);
        Claim { registrations: self, key: key.clone(), former, confirmed: false }
    }

    pub(crate) fn hold(&self, key: &Key, registration: Registration) {
        self.held().keys.insert(key.clone(), registration);
    }

    pub(crate) fn release(&self, key: &Key) -> Option<Registration> {
        self.held().keys.remove(key)
    }

    /// Who owns the key by a read of the registry; `None`: it does not exist. What somebody else removed
    /// or took over while our session lived is not ours to make again. A read from before our own write
    /// must not count, hence `seen`.
    pub(crate) fn observe(&self, key: &Key, owner: Option<i64>) {
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

    /// Whether [`Self::observe`] would take the key's absence for somebody else's removal.
    pub(crate) fn would_give_up(&self, key: &Key) -> bool {
        let held = self.held();
        let current = held.sessions.back().copied();
        held.keys.get(key).is_some_and(|held| held.seen && Some(held.session) == current)
    }

    /// Keys to look up after a read of everything, which does not name what is absent.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.held().keys.keys().cloned().collect()
    }

    /// A session of this process, the present one or a former one that the servers may still keep.
    pub(crate) fn is_ours(&self, session: i64) -> bool {
        self.held().sessions.contains(&session)
    }

    /// Makes those of former sessions again in `session`, by `take`: whether the key is that session's now,
    /// or somebody else's. One that cannot be made, for a reason that `is_its_own` fault, is given up; any
    /// other failure is returned, and to be tried again.
    pub(crate) async fn restore<F: std::fmt::Display, T: Future<Output = Result<bool, F>>>(
        &self,
        session: i64,
        take: impl Fn(Key, Bytes) -> T,
        is_its_own: impl Fn(&F) -> bool,
    ) -> Result<(), F> {
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
        let mut taken = futures::stream::iter(lost)
            .map(|(key, value)| {
                let taking = take(key.clone(), value.clone());
                async move { (key, value, taking.await) }
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some((key, value, outcome)) = taken.next().await {
            match outcome {
                Ok(true) => self.keep(&key, value, session),
                Ok(false) => {
                    tracing::warn!(%key, "not registered again: somebody else has the key");
                    self.release(&key);
                }
                Err(error) if is_its_own(&error) => {
                    tracing::warn!(%key, %error, "not registered again");
                    self.release(&key);
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(count, "registered again what the expired session held");
        Ok(())
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
    fn news_may_be_quicker_than_the_answer_to_a_write() {
        let registrations = Registrations::default();
        registrations.begin_session(1);
        let claim = registrations.claim(&key(), Bytes::from_static(b"10.0.0.1:80"), 1);
        registrations.observe(&key(), Some(1));
        claim.confirm();
        assert!(registrations.would_give_up(&key()));
        registrations.observe(&key(), None);
        assert!(registrations.keys().is_empty());
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_held_before() {
        let registrations = Registrations::default();
        registrations.begin_session(1);
        drop(registrations.claim(&key(), Bytes::from_static(b"10.0.0.1:80"), 1));
        assert!(registrations.keys().is_empty());
        registrations.claim(&key(), Bytes::from_static(b"10.0.0.1:80"), 1).confirm();
        drop(registrations.claim(&key(), Bytes::from_static(b"10.0.0.1:81"), 1));
        assert_eq!(&registrations.release(&key()).unwrap().value[..], b"10.0.0.1:80");
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
