//! What a listener's handshakes follow.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use discovery::file::FilePattern;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};

use super::super::stream::NotesServerName;
use super::files::Stamp;
use super::registered::Registered;
use super::{Certificates, TlsError, client_auth, provider};
use crate::config::{ClientAuthConfig, MinTlsVersion, TlsConfig};

/// A listener's TLS. [`ServerTls::config`] is asked for every connection, since the client CA can change.
#[derive(Debug)]
pub struct ServerTls {
    pub(super) policy: Arc<Policy>,
    min_version: MinTlsVersion,
    inside: Inside,
    config: ArcSwap<ServerConfig>,
}

/// What clients are offered to speak (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    Http2OrHttp1,
    Http1,
    /// Nothing: what the endpoint speaks is not for us to choose.
    Bytes,
}

/// What two listeners must have in common for one to resume the other's sessions: who we are, and whom we
/// let in. A ticket says that its holder was verified; another listener's authority did not.
#[derive(Debug)]
pub(super) struct Policy {
    patterns: Vec<FilePattern>,
    from_registry: bool,
    client_auth: Option<ClientAuthConfig>,
    pub(super) certificates: Arc<Certificates>,
    admission: ArcSwap<Admission>,
}

/// Replaced as one: tickets of clients that a former CA vouched for end with it.
#[derive(Debug)]
struct Admission {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Keys of 6 hours, of which the former still opens what it sealed: whoever comes back within that
    /// time saves half the handshake, and a stolen key opens at most 12 hours of TLS 1.2.
    ticketer: Arc<dyn ProducesTickets>,
    stamp: Option<Stamp>,
    /// Why the CA file as it is now is not in force.
    reject: Option<String>,
}

impl ServerTls {
    pub(super) fn new(
        policy: Arc<Policy>,
        min_version: MinTlsVersion,
        inside: Inside,
    ) -> Result<Arc<Self>, TlsError> {
        let config = ArcSwap::from(server_config(&policy, min_version, inside)?);
        Ok(Arc::new(Self { policy, min_version, inside, config }))
    }

    /// For the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.policy.certificates
    }

    /// Follows its policy.
    pub(super) fn rebuild(&self) -> Result<(), TlsError> {
        self.config.store(server_config(&self.policy, self.min_version, self.inside)?);
        Ok(())
    }
}

/// TLS 1.2 and 1.3, or 1.3 alone. Tickets only: a cache of sessions would be a lock between workers, for
/// the few clients of TLS 1.2 that know no tickets. No early data: it can be replayed.
fn server_config(
    policy: &Policy,
    min_version: MinTlsVersion,
    inside: Inside,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions = match min_version {
        MinTlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        MinTlsVersion::Tls13 => &[&TLS13],
    };
    let admission = policy.admission.load();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(admission.verifier.clone())
        .with_cert_resolver(Arc::new(NotesServerName(policy.certificates.clone())));
    config.alpn_protocols = match inside {
        Inside::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Inside::Http1 => vec![b"http/1.1".to_vec()],
        Inside::Bytes => Vec::new(),
    };
    // Clients order suites by habit; ours is by cost, and no suite of ours is weak.
    config.ignore_client_order = true;
    config.ticketer = admission.ticketer.clone();
    // A client that opens several connections gets one on each; a second one costs every handshake a key
    // and an encryption for the client that wants to open more next time.
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

impl Policy {
    pub(super) fn load(config: &TlsConfig, registered: &Arc<Registered>) -> Result<Arc<Self>, TlsError> {
        let registered = config.from_registry.then(|| registered.clone());
        let certificates = Certificates::load(&config.certificates, registered)?;
        let admission = ArcSwap::from_pointee(Admission::load(config.client_auth.as_ref())?);
        Ok(Arc::new(Self {
            patterns: config.certificates.clone(),
            from_registry: config.from_registry,
            client_auth: config.client_auth.clone(),
            certificates,
            admission,
        }))
    }

    /// Whether a listener that is configured so has this very policy.
    pub(super) fn is_of(&self, config: &TlsConfig) -> bool {
        self.patterns == config.certificates
            && self.from_registry == config.from_registry
            && self.client_auth == config.client_auth
    }

    /// Looks at the client CA again; returns whether configurations must follow it. A bad file keeps the
    /// former one and is logged once per change.
    pub(super) fn refresh_client_auth(&self) -> bool {
        let Some(config) = &self.client_auth else { return false };
        let former = self.admission.load();
        let stamp = Stamp::of(&config.ca);
        if stamp == former.stamp {
            return false;
        }
        let file = config.ca.display();
        match Admission::load(Some(config)) {
            Ok(admission) => {
                tracing::info!(%file, "new client CA in force; tickets of the former one are void");
                self.admission.store(Arc::new(admission));
                true
            }
            Err(error) => {
                tracing::error!(%error, "client CA rejected: the former one stays");
                let (verifier, ticketer) = (former.verifier.clone(), former.ticketer.clone());
                let reject = Some(error.to_string());
                self.admission.store(Arc::new(Admission { verifier, ticketer, stamp, reject }));
                false
            }
        }
    }

    /// The client CA's file, and why it is not in force as it is now.
    pub(super) fn client_ca_reject(&self) -> Option<(PathBuf, String)> {
        let config = self.client_auth.as_ref()?;
        Some((config.ca.clone(), self.admission.load().reject.clone()?))
    }
}

impl Admission {
    fn load(config: Option<&ClientAuthConfig>) -> Result<Self, TlsError> {
        // Before the reading: a write in between is noticed the next time.
        let stamp = config.and_then(|config| Stamp::of(&config.ca));
        let verifier = match config {
            Some(config) => client_auth::verifier(config)?,
            None => Arc::new(NoClientAuth),
        };
        Ok(Self { verifier, ticketer: aws_lc_rs::Ticketer::new()?, stamp, reject: None })
    }
}
