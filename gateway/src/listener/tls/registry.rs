//! Everything of TLS that this gateway has, for the one task that keeps it fresh and for operators.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use imbl::OrdMap;
use topology::{CertificateName, CertificatePem};

use super::expiry::ExpiryWarnings;
use super::registered::Registered;
use super::server_config::{Inside, Policy};
use super::{CertificateReport, ServerTls, TlsError, UpstreamProfiles, unix_now};
use crate::config::TlsConfig;

/// Control plane only: a worker never comes here.
#[derive(Debug, Default)]
pub struct TlsRegistry {
    upstreams: Arc<UpstreamProfiles>,
    registered: Arc<Registered>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    listeners: Vec<(Arc<str>, Arc<ServerTls>)>,
    /// All that are in use, for listeners to share them.
    policies: Vec<Weak<Policy>>,
    warnings: ExpiryWarnings,
}

/// A listener's files, for operators.
#[derive(Debug, Clone)]
pub struct ListenerCertificates {
    pub listener: Arc<str>,
    pub certificates: Vec<CertificateReport>,
    /// The client CA's file, where it is not in force as it is now, and why.
    pub client_ca_reject: Option<(PathBuf, String)>,
}

impl TlsRegistry {
    pub fn new(upstreams: Arc<UpstreamProfiles>) -> Self {
        Self { upstreams, registered: Arc::default(), inner: Mutex::default() }
    }

    /// A listener's TLS, which nobody watches before [`Self::adopt`]. Listeners with the same files and
    /// the same client CA share certificates and ticket keys. `inside`: what is offered.
    ///
    /// # Errors
    /// [`TlsError`]: which file cannot be used, and why.
    pub fn prepare(&self, config: &TlsConfig, inside: Inside) -> Result<Arc<ServerTls>, TlsError> {
        let mut inner = self.inner();
        inner.policies.retain(|policy| policy.strong_count() > 0);
        let shared = inner.policies.iter().filter_map(Weak::upgrade).find(|policy| policy.is_of(config));
        let policy = match shared {
            Some(policy) => policy,
            None => {
                let policy = Policy::load(config, &self.registered)?;
                inner.policies.push(Arc::downgrade(&policy));
                policy
            }
        };
        ServerTls::new(policy, config.min_version, inside)
    }

    /// Makes `listeners` all that are watched and reported.
    pub fn adopt(&self, listeners: Vec<(Arc<str>, Arc<ServerTls>)>) {
        // What came since they were prepared.
        listeners.iter().for_each(|(_, tls)| tls.policy.certificates.follow_registry());
        self.inner().listeners = listeners;
    }

    /// Prepares and adopts one listener more.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    #[cfg(test)]
    pub fn listen(
        &self,
        name: &Arc<str>,
        config: &TlsConfig,
        inside: Inside,
    ) -> Result<Arc<ServerTls>, TlsError> {
        let tls = self.prepare(config, inside)?;
        self.inner().listeners.push((name.clone(), tls.clone()));
        Ok(tls)
    }

    /// Serves what the registry has now; what is bad keeps what was there. Costs what has changed.
    pub fn follow(&self, certificates: &OrdMap<CertificateName, CertificatePem>) {
        if self.registered.follow(certificates, unix_now()) {
            self.inner().listeners.iter().for_each(|(_, tls)| tls.policy.certificates.follow_registry());
        }
    }

    /// Looks at all files again; what is bad keeps what was there.
    pub fn refresh(&self) {
        let mut inner = self.inner();
        let mut seen: Vec<*const Policy> = Vec::new();
        for (_, tls) in &inner.listeners {
            let policy = Arc::as_ptr(&tls.policy);
            if seen.contains(&policy) {
                continue;
            }
            seen.push(policy);
            tls.policy.certificates.refresh();
            if tls.policy.refresh_client_auth() {
                rebuild(inner.listeners.iter().filter(|(_, other)| Arc::ptr_eq(&other.policy, &tls.policy)));
            }
        }
        self.upstreams.refresh();
        let dates: Vec<_> = dates(&inner.listeners).chain(self.upstreams.dates()).collect();
        inner.warnings.look(dates.into_iter(), unix_now());
    }

    /// Reads the system's roots again too, which no poll watches.
    pub fn reload(&self) {
        self.upstreams.reload();
        self.refresh();
    }

    /// Every TLS listener with its files.
    pub fn report(&self) -> Vec<ListenerCertificates> {
        let of = |(name, tls): &(Arc<str>, Arc<ServerTls>)| ListenerCertificates {
            listener: name.clone(),
            certificates: tls.certificates().report(),
            client_ca_reject: tls.policy.client_ca_reject(),
        };
        self.inner().listeners.iter().map(of).collect()
    }

    pub fn upstreams(&self) -> &Arc<UpstreamProfiles> {
        &self.upstreams
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rebuild<'a>(listeners: impl Iterator<Item = &'a (Arc<str>, Arc<ServerTls>)>) {
    for (listener, tls) in listeners {
        if let Err(error) = tls.rebuild() {
            tracing::error!(%listener, %error, "TLS stays as it was");
        }
    }
}

fn dates(listeners: &[(Arc<str>, Arc<ServerTls>)]) -> impl Iterator<Item = (PathBuf, i64)> {
    let files = listeners.iter().flat_map(|(_, tls)| tls.certificates().report());
    files.filter_map(|file| Some((file.path, file.not_after?)))
}
