//! The whole topology at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::{App, AppId, CertificateName, InstanceKey, OperatorWord};

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

/// A certificate's chain and key in PEM, as it was unsealed: not looked at, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePem(Arc<[u8]>);

impl CertificatePem {
    pub fn new(pem: &[u8]) -> Self {
        Self(Arc::from(pem))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for CertificatePem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CertificatePem")
    }
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
    /// Those that the registry has and that could be unsealed.
    pub certificates: OrdMap<CertificateName, CertificatePem>,
    /// By where they stand: a registry key or a file's path.
    pub rejections: OrdMap<Arc<str>, Rejection>,
}
