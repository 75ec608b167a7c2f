//! The whole topology at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::{App, AppId, InstanceKey, OperatorWord};

/// A number that grows with every change that a source applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

/// A piece of a source that could not be used. What it replaces, if anything, stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The app that it would have changed, when that much is known.
    pub app: Option<AppId>,
    /// All that is wrong with it, each mistake with its place.
    pub reason: Arc<str>,
}

/// Immutable, and cheap to clone and to compare with its predecessor: both share what did not change.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub revision: Revision,
    /// The registry's own revision up to which its changes are in here: what one compares between
    /// gateways, since [`Snapshot::revision`] counts from each one's start.
    pub registry_revision: u64,
    /// The registry's revision when it last said anything new of an app, be it in force or rejected: what others
    /// write there does not move it.
    pub routed_revision: u64,
    pub apps: OrdMap<AppId, Arc<App>>,
    /// What operators say of endpoints, whether there are such endpoints or not; those that there are have it too.
    pub words: OrdMap<AppId, Arc<BTreeMap<InstanceKey, OperatorWord>>>,
    /// By where they stand: a registry key or a file's path.
    pub rejections: OrdMap<Arc<str>, Rejection>,
}
