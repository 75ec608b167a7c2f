//! What exists: apps, their versions, the instances that run them, and where those listen.
//!
//! This crate holds values. It decides what a valid name, host pattern, path or weight is, and
//! refuses to know where a value came from on the wire, whether an endpoint is healthy, or how a
//! request finds it.

mod app;
mod balance;
mod capacity;
mod containment;
mod endpoint;
pub mod filters;
mod health;
mod hedge;
mod host;
mod id;
mod limits;
mod log;
mod matching;
mod operator;
mod path;
mod port;
mod retries;
mod sample;
mod snapshot;
mod sticky;
mod timeouts;

pub use app::{App, AppSpec, AppTls, ProxyVersion, Split, SplitError};
pub use balance::{Balance, HashAlgorithm, HashKey, Hashing};
pub use capacity::{Adaptive, Capacity};
pub use containment::{Containment, Outliers, SLOW_START_PERCENT, Slowness, SuccessRate};
pub use endpoint::{Endpoint, InstanceKey, Origin, Protocol};
pub use health::{HealthSettings, HttpProbeSettings, OnFailure, ProbeKind, ProbeMethod};
pub use hedge::Hedge;
pub use host::{BadHost, HostPattern, normalize_host};
pub use id::{AppId, BadId, CertificateName, HostId, InstanceId, RouteId, VersionId};
pub use limits::AppLimits;
pub use log::LogSettings;
pub use matching::{
    Condition, MatchEffect, Named, RequestMatch, UserCondition, UserGroup, UserId, ValueMatch,
};
pub use operator::{AdminState, OperatorWord};
pub use path::{BadPath, PathMatch};
pub use port::{AppPort, PortProtocol};
pub use retries::{Backoff, Retries, RetryAllowance, RetryCause, RetryCauses};
pub use sample::Sample;
pub use snapshot::{CertificatePem, Rejection, Revision, Snapshot};
pub use sticky::{SameSite, Sticky};
pub use timeouts::Timeouts;
