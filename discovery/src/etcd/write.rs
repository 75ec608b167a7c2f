//! Reading and changing one key, the latter under a condition: one transaction each.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Error, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use tonic::Code;

use super::connection::Connection;
use super::read::{Found, unsigned};
use crate::registry::{Expect, Key, Lifetime, RegistryError, Step};

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no connection to the registry")]
    NotConnected,
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("others kept changing it")]
    Contended,
    #[error("it is not as expected")]
    Conflict(Expect),
    #[error("the server's answer has no header")]
    NoHeader,
    #[error("{}", words(.0))]
    Client(#[from] Error),
}

/// One key, and how far a change of it has come.
#[derive(Debug)]
pub(super) struct Target {
    key: Key,
    path: String,
    /// A request that changes the key is on its way, and no answer has said that it did nothing.
    sent: AtomicBool,
}

impl Target {
    pub(super) fn new(key: &Key, path: String) -> Self {
        Self { key: key.clone(), path, sent: AtomicBool::new(false) }
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

    /// As the cluster, not only the server that we are connected to, has it now: etcd's reads are
    /// linearizable unless one asks for less.
    pub(super) async fn read(&self, connection: &mut Connection) -> Result<Option<Found>, Failure> {
        let mut answer = connection.kv.get(&*self.path, None).await?;
        Ok(answer.take_kvs().pop().map(Found::of))
    }

    /// Returns the new version.
    pub(super) async fn put(
        &self,
        connection: &mut Connection,
        value: &[u8],
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<u64, Failure> {
        let options = match lifetime {
            Lifetime::Persistent => PutOptions::new(),
            Lifetime::Session => PutOptions::new().with_lease(connection.lease),
        };
        let put = TxnOp::put(&*self.path, value, Some(options));
        self.change(connection, put, expect).await
    }

    pub(super) async fn remove(&self, connection: &mut Connection, expect: Expect) -> Result<(), Failure> {
        self.change(connection, TxnOp::delete(&*self.path, None), expect).await.map(drop)
    }

    /// Returns the revision in which the change was made.
    async fn change(
        &self,
        connection: &mut Connection,
        change: TxnOp,
        expect: Expect,
    ) -> Result<u64, Failure> {
        let conditions: Vec<_> = condition(&self.path, expect)?.into_iter().collect();
        self.sent.store(true, Ordering::Relaxed);
        let answer = match connection.kv.txn(Txn::new().when(conditions).and_then([change])).await {
            Err(error) => {
                self.sent.store(!did_nothing(&error), Ordering::Relaxed);
                return Err(error.into());
            }
            Ok(answer) if !answer.succeeded() => return Err(Failure::Conflict(expect)),
            Ok(answer) => answer,
        };
        let header = answer.header().ok_or(Failure::NoHeader)?;
        Ok(unsigned(header.revision()))
    }
}

/// `None` where everything is as expected.
fn condition(path: &str, expect: Expect) -> Result<Option<Compare>, Failure> {
    match expect {
        Expect::Any => Ok(None),
        Expect::Absent => Ok(Some(Compare::create_revision(path, CompareOp::Equal, 0))),
        // To etcd 0 means absent, and no key has it.
        Expect::Version(version) => match i64::try_from(version) {
            Ok(version @ 1..) => Ok(Some(Compare::mod_revision(path, CompareOp::Equal, version))),
            _ => Err(Failure::Conflict(expect)),
        },
    }
}

/// Several keys, and how far a change of them has come.
#[derive(Debug)]
pub(super) struct Targets<'s> {
    steps: &'s [Step],
    paths: Vec<String>,
    sent: AtomicBool,
    /// Which one was not as expected.
    culprit: AtomicUsize,
}

impl<'s> Targets<'s> {
    pub(super) fn new(steps: &'s [Step], path: impl Fn(&Key) -> String) -> Self {
        let paths = steps.iter().map(|step| path(&step.key)).collect();
        Self { steps, paths, sent: AtomicBool::new(false), culprit: AtomicUsize::new(0) }
    }

    /// As [`Target::explain`].
    pub(super) fn explain(&self, doing: String, failure: Failure) -> RegistryError {
        let culprit = &self.steps[self.culprit.load(Ordering::Relaxed)].key;
        let target = Target { key: culprit.clone(), path: String::new(), sent: AtomicBool::new(false) };
        target.sent.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        target.explain(doing, failure)
    }

    /// Returns the revision in which all was done.
    pub(super) async fn change(&self, connection: &mut Connection) -> Result<u64, Failure> {
        let (mut conditions, mut changes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (step, path)) in self.steps.iter().zip(&self.paths).enumerate() {
            let blame = |failure| {
                self.culprit.store(at, Ordering::Relaxed);
                failure
            };
            conditions.extend(condition(path, step.expect).map_err(blame)?);
            changes.push(match &step.value {
                Some(value) => TxnOp::put(&**path, &**value, None),
                None => TxnOp::delete(&**path, None),
            });
            let keys_only = GetOptions::new().with_keys_only();
            reads.push(TxnOp::get(&**path, Some(keys_only)));
        }
        self.sent.store(true, Ordering::Relaxed);
        let transaction = Txn::new().when(conditions).and_then(changes).or_else(reads);
        let answer = match connection.kv.txn(transaction).await {
            Err(error) => {
                self.sent.store(!did_nothing(&error), Ordering::Relaxed);
                return Err(error.into());
            }
            Ok(answer) => answer,
        };
        if !answer.succeeded() {
            return Err(Failure::Conflict(self.blame(&answer.op_responses())));
        }
        let header = answer.header().ok_or(Failure::NoHeader)?;
        Ok(unsigned(header.revision()))
    }

    /// What was expected of the first key that is otherwise.
    fn blame(&self, found: &[TxnOpResponse]) -> Expect {
        for (at, (step, answer)) in self.steps.iter().zip(found).enumerate() {
            let TxnOpResponse::Get(answer) = answer else { continue };
            let present = answer.kvs().first().map(|pair| unsigned(pair.mod_revision()));
            if !step.expect.admits(present) {
                self.culprit.store(at, Ordering::Relaxed);
                return step.expect;
            }
        }
        Expect::Any
    }
}

/// The servers' own answer that a request was not carried out. Anything else leaves it open:
/// `Unavailable` is also what they say when a change waits for a leader.
fn did_nothing(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}

/// The answer has more bytes than we take. etcd gives the same code for revisions that are compacted or
/// yet to come.
pub(super) fn is_too_large(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    status.code() == Code::OutOfRange && !status.message().starts_with("etcdserver:")
}

/// What the servers said, or what kept them from it down to its cause.
pub(super) fn words(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        // Layers repeat each other.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}
