//! Changing one node under a condition.
//!
//! ZooKeeper compares a node's data version, which starts at 0 again when a node is deleted and made again.
//! So a condition on our version (the `mzxid`) is looked up first and then written under the data
//! version that came with it. Should the node be deleted, made again and brought to that same data version
//! between the two, the servers cannot tell; the answer's `czxid` does, and the caller hears that
//! something happened ([`Failure::MadeAgain`]), never that its condition held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zookeeper_client::{Client, Error, MultiWriteError, MultiWriteResult, Stat};

use super::Acl;
use super::node::{Node, is_entry, parent_path, unsigned};
use crate::registry::{Expect, Key, Lifetime, RegistryError};
use crate::remote::MAX_ATTEMPTS;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no connection to the registry")]
    NotConnected,
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("others kept changing it")]
    Contended,
    #[error("it was deleted and made again meanwhile; what was changed is the new one")]
    MadeAgain,
    #[error("it is not as expected")]
    Conflict(Expect),
    #[error(transparent)]
    Client(#[from] Error),
}

/// One node, and how far a change of it has come.
#[derive(Debug)]
pub(super) struct Target {
    key: Key,
    path: String,
    acl: Acl,
    /// A request that changes the node is on its way, and no answer has said that it did nothing.
    sent: AtomicBool,
}

impl Target {
    pub(super) fn new(key: &Key, path: String, acl: Acl) -> Self {
        Self { key: key.clone(), path, acl, sent: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// In the words of the trait.
    pub(super) fn explain(&self, doing: String, failure: Failure) -> RegistryError {
        match failure {
            Failure::Conflict(expected) => RegistryError::Conflict { key: self.key.clone(), expected },
            failure => RegistryError::Failed {
                doing,
                may_have_happened: self.sent.load(Ordering::Relaxed),
                source: Box::new(failure),
            },
        }
    }

    /// The node as the ensemble, not only the server that we are connected to, has it now.
    pub(super) async fn read(&self, client: &Client) -> Result<Option<Node>, Error> {
        let (synced, node) = futures::join!(client.sync(&self.path), Node::read(client, &self.path));
        synced?;
        node
    }

    pub(super) async fn stat(&self, client: &Client) -> Result<Option<Stat>, Error> {
        let (synced, stat) = futures::join!(client.sync(&self.path), client.check_stat(&self.path));
        synced?;
        stat
    }

    /// Returns the new version.
    pub(super) async fn put(
        &self,
        client: &Client,
        value: &[u8],
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, Failure> {
        let owner = match lifetime {
            Lifetime::Persistent => 0,
            Lifetime::Session => client.session_id().0,
        };
        for _ in 0..MAX_ATTEMPTS {
            let found = self.stat(client).await?;
            check(expect, found.as_ref())?;
            let outcome = match found {
                None => self.create(client, value, lifetime).await,
                Some(stat) if stat.ephemeral_owner == owner => self.set(client, value, &stat).await,
                Some(stat) => self.replace(client, value, lifetime, &stat).await,
            };
            if let Some(stat) = self.conclude(outcome)? {
                return Ok(unsigned(stat.mzxid));
            }
        }
        Err(Failure::Contended)
    }

    pub(super) async fn remove(&self, client: &Client, expect: Expect) -> Result<(), Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.stat(client).await?;
            check(expect, found.as_ref())?;
            let Some(stat) = found.filter(is_entry) else { return Ok(()) };
            let outcome = self.erase(client, &stat).await;
            if self.conclude(outcome)?.is_some() {
                return Ok(());
            }
        }
        Err(Failure::Contended)
    }

    /// `None` when somebody was quicker and nothing of ours happened: look again.
    fn conclude<T>(&self, outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(Failure::Client(error)) if did_nothing(&error) => {
                self.sent.store(false, Ordering::Relaxed);
                match error {
                    Error::NoNode | Error::NodeExists | Error::BadVersion => Ok(None),
                    error => Err(error.into()),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn create(
        &self,
        client: &Client,
        value: &[u8],
        lifetime: Lifetime,
    ) -> Result<Stat, Failure> {
        let options = self.acl.options(lifetime);
        self.sent.store(true, Ordering::Relaxed);
        match client.create(&self.path, value, &options).await {
            Err(Error::NoNode) => {}
            result => return Ok(result?.0),
        }
        self.sent.store(false, Ordering::Relaxed);
        client.mkdir(parent_path(&self.path), &self.acl.options(Lifetime::Persistent)).await?;
        self.sent.store(true, Ordering::Relaxed);
        Ok(client.create(&self.path, value, &options).await?.0)
    }

    async fn set(&self, client: &Client, value: &[u8], found: &Stat) -> Result<Stat, Failure> {
        self.sent.store(true, Ordering::Relaxed);
        let stat = client.set_data(&self.path, value, Some(found.version)).await?;
        if stat.czxid == found.czxid { Ok(stat) } else { Err(Failure::MadeAgain) }
    }

    /// Deletes and creates in one transaction: nobody finds the key absent, and it gets the lifetime that
    /// a node cannot change. Fails for a node that has children.
    pub(super) async fn replace(
        &self,
        client: &Client,
        value: &[u8],
        lifetime: Lifetime,
        found: &Stat,
    ) -> Result<Stat, Failure> {
        let mut writer = client.new_multi_writer();
        writer.add_delete(&self.path, Some(found.version))?;
        writer.add_create(&self.path, value, &self.acl.options(lifetime))?;
        self.sent.store(true, Ordering::Relaxed);
        let results = writer.commit().await.map_err(Error::from)?;
        match results.into_iter().nth(1) {
            // ZOOKEEPER-4667: some servers leave the stat out.
            Some(MultiWriteResult::Create { stat, .. }) if !stat.is_invalid() => Ok(stat),
            _ => self.stat(client).await?.ok_or(Failure::MadeAgain),
        }
    }

    /// A deletion's answer has no stat, so the deletion follows a write in the same transaction, whose has. A
    /// directory of other keys only loses its value.
    async fn erase(&self, client: &Client, found: &Stat) -> Result<(), Failure> {
        let mut writer = client.new_multi_writer();
        writer.add_set_data(&self.path, &[], Some(found.version))?;
        writer.add_delete(&self.path, Some(found.version.wrapping_add(1)))?;
        self.sent.store(true, Ordering::Relaxed);
        let results = match writer.commit().await {
            Err(MultiWriteError::OperationFailed { source: Error::NotEmpty, .. }) => {
                return self.set(client, &[], found).await.map(|_| ());
            }
            results => results.map_err(Error::from)?,
        };
        match results.first() {
            Some(MultiWriteResult::SetData { stat }) if stat.czxid != found.czxid => Err(Failure::MadeAgain),
            _ => Ok(()),
        }
    }
}

/// Creates the node at `path` and those above it, without values, where they do not exist. Asks first: who
/// may not create it is refused before the servers look whether it is there.
pub(super) async fn create_directory(client: &Client, path: &str, acl: Acl) -> Result<(), Error> {
    if client.check_stat(path).await?.is_some() {
        return Ok(());
    }
    client.mkdir(path, &acl.options(Lifetime::Persistent)).await
}

pub(super) fn check(expect: Expect, found: Option<&Stat>) -> Result<(), Failure> {
    let present = found.filter(|stat| is_entry(stat)).map(|stat| unsigned(stat.mzxid));
    if expect.admits(present) { Ok(()) } else { Err(Failure::Conflict(expect)) }
}

/// The servers' own answer that a request was not carried out. Anything else leaves it open.
pub(super) fn did_nothing(error: &Error) -> bool {
    matches!(
        error,
        Error::NoNode
            | Error::NodeExists
            | Error::BadVersion
            | Error::NotEmpty
            | Error::NoAuth
            | Error::NoChildrenForEphemerals
            | Error::InvalidAcl
            | Error::BadArguments(_)
            | Error::QuotaExceeded
            | Error::Throttled
            | Error::NotReadOnly
            | Error::MarshallingError
            | Error::Unimplemented
            | Error::UnexpectedErrorCode(_)
    )
}
