//! What runs instances.
//!
//! A [`Runtime`] is one host: a Docker Engine, or the processes of this machine. It starts what it is
//! told and says what is there; it never decides. Every call has a deadline, so that a host that
//! hangs costs its caller a bounded wait, and every call may be repeated: the state that a call asks
//! for is the same however often it was asked.

pub mod child;
pub mod docker;
mod error;
mod instance;
pub mod process;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use error::{Fault, RuntimeError};
use instance::unique_name;
pub use instance::{
    ExecEnd, ExecOutcome, ExecRequest, HostFacts, Image, InjectedFile, InstanceRef, InstanceSpec,
    InstanceState, InstanceStatus, LogLine, LogOptions, LogRequest, LogSource, PortBinding, Resources,
    Volume,
};

pub type LogLines = BoxStream<'static, Result<LogLine, RuntimeError>>;

/// One host that runs instances.
///
/// A runtime knows its own instances by the owner that it was made with, and neither lists nor
/// touches what anybody else runs on the host.
#[async_trait]
pub trait Runtime: Debug + Send + Sync {
    /// Starts an instance and returns once it runs, which is not yet "answers".
    ///
    /// An instance is one of its kind: where it is there already, in whatever state, this changes
    /// nothing and returns its status. So a start that was cut off can be repeated, and an instance that
    /// has ended is started again only after [`remove`](Self::remove).
    ///
    /// # Errors
    /// Any [`Fault`]. Where it says that it [may have
    /// happened](RuntimeError::may_have_happened), the instance may be there: repeat the call or
    /// remove the instance. Otherwise nothing was left behind.
    async fn start(&self, spec: &InstanceSpec) -> Result<InstanceStatus, RuntimeError>;

    /// Asks the instance to end (SIGTERM), and kills it, and all that it started, when it is there
    /// after `grace`. How it ended and its output can still be read, until it is removed. An instance
    /// that has ended stays as it is; one that is not there is no error: `None`.
    ///
    /// # Errors
    /// [`Fault::Timeout`] when the host has not said that it ended a while after `grace`, or another.
    async fn stop(&self, id: &InstanceRef, grace: Duration) -> Result<Option<InstanceStatus>, RuntimeError>;

    /// Kills the instance where it runs, and forgets it with its output. One that is not there is no
    /// error.
    ///
    /// # Errors
    /// Where the host cannot be asked, or is not done within the deadline.
    async fn remove(&self, id: &InstanceRef) -> Result<(), RuntimeError>;

    /// All instances of this owner, ended ones too, in order of their names.
    ///
    /// # Errors
    /// Where the host cannot be asked: an empty list means that there is none.
    async fn list(&self) -> Result<Vec<InstanceStatus>, RuntimeError>;

    /// # Errors
    /// Where the host cannot be asked: `None` means that it is not there.
    async fn inspect(&self, id: &InstanceRef) -> Result<Option<InstanceStatus>, RuntimeError>;

    /// Returns when the instance has ended, or is not there (`None`), or after `at_most`, whichever is
    /// first; then with the state as it is.
    ///
    /// # Errors
    /// Where the host cannot be asked.
    async fn wait(&self, id: &InstanceRef, at_most: Duration)
    -> Result<Option<InstanceStatus>, RuntimeError>;

    /// What the instance wrote, oldest first. Without `follow` the stream ends with what there is; with
    /// it, when the instance ends or the caller drops it.
    ///
    /// # Errors
    /// [`Fault::NoSuchInstance`], [`Fault::Unsupported`] where output goes elsewhere.
    async fn logs(&self, id: &InstanceRef, request: &LogRequest) -> Result<LogLines, RuntimeError>;

    /// Runs a command inside a running instance: same limits, same view of files, same environment.
    /// That it fails or takes too long is an outcome, with what it wrote, and no error.
    ///
    /// # Errors
    /// [`Fault::NoSuchInstance`], [`Fault::NotRunning`], [`Fault::CommandNotFound`].
    async fn exec(&self, id: &InstanceRef, request: &ExecRequest) -> Result<ExecOutcome, RuntimeError>;

    /// Changes what a running instance may use, without a restart. `None` in a field lifts that limit.
    ///
    /// # Errors
    /// [`Fault::NoSuchInstance`]; [`Fault::Unsupported`] where this host cannot limit that;
    /// [`Fault::OutOfResources`] where the instance uses more already.
    async fn update(&self, id: &InstanceRef, resources: &Resources) -> Result<(), RuntimeError>;

    /// Time of processors that these running instances, with all that they started, have used since they were started. Those
    /// that do not run, or of which the host cannot say, are left out.
    ///
    /// # Errors
    /// Where the host cannot be asked.
    async fn cpu_used(&self, ids: &[InstanceRef]) -> Result<Vec<(InstanceRef, Duration)>, RuntimeError>;

    /// # Errors
    /// Where the host cannot be asked.
    async fn host_facts(&self) -> Result<HostFacts, RuntimeError>;
}
