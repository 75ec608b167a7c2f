//! TLS: who we are, who our clients are, and whom we believe upstream.
//!
//! Files are read on the control plane's thread only: at the start, every few seconds, and on SIGHUP. What the registry
//! has comes with its snapshots.
//! Whatever is wrong with a file keeps what was in force before; a handshake only follows pointers.

mod certificate;
mod certificates;
mod chain;
mod client_auth;
mod error;
mod expiry;
mod files;
mod identity;
mod index;
mod ocsp;
mod registered;
mod registry;
mod server_config;
#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use certificates::{CertificateReport, Certificates};
pub use error::TlsError;
pub use files::{inspect, inspect_client_ca, inspect_pem};
pub use identity::ClientIdentity;
pub use registry::{ListenerCertificates, TlsRegistry};
pub use server_config::{Inside, ServerTls};
pub use upstream::{Alpn, EndpointTls, UpstreamProfiles, UpstreamTls};

/// The library's cipher suites are a modern profile as they are: TLS 1.3's, and for TLS 1.2 ECDHE with
/// AES-GCM or ChaCha20 only. Of the groups the hybrid one comes first: what is recorded today must not
/// be readable once X25519 is broken.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    let mut provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    // The suite that RFC 8446 section 9.1 asks everybody to have comes first: of a handshake's time its
    // SHA-256 takes a tenth of what SHA-384 does where processors have instructions for the one only.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
});

fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Seconds since 1970, as certificates count.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// RFC 3339, to the second.
pub fn show_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| format!("{seconds} s since 1970"),
        |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}
