//! One PEM file: a chain and its key, checked against each other.

use std::path::Path;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{chain, files, provider, show_time};

/// Public chains have three or four; each handshake sends all of them.
const MAX_CHAIN: usize = 10;

#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Arc<dyn SigningKey>,
    /// DNS names of the leaf in lower case, wildcards as `*.example.com`.
    pub(super) names: Vec<Box<str>>,
    pub(super) validity: Validity,
    /// As in the leaf, for finding it in an OCSP response.
    pub(super) serial: Vec<u8>,
}

/// Both ends belong to it (RFC 5280 section 4.1.2.5), in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Validity {
    pub(super) fn holds(self, now: i64) -> bool {
        (self.from..=self.until).contains(&now)
    }

    /// What is wrong with it now, if anything.
    pub(super) fn complaint(self, now: i64) -> Option<String> {
        if now > self.until {
            Some(format!("expired at {}; renew it", show_time(self.until)))
        } else if now < self.from {
            Some(format!("is not valid before {}; is the clock right?", show_time(self.from)))
        } else {
            None
        }
    }
}

impl Certificate {
    /// # Errors
    /// In words, without the path: what is wrong with the file, and what to write.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        Self::of_pem(&files::read(path)?)
    }

    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("a certificate cannot be decoded: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| format!("has no usable private key; append the leaf's key: {error}"))?;
        let leaf = chain.first().ok_or("has no certificate; add the chain, leaf first")?.clone();
        if chain.len() > MAX_CHAIN {
            return Err(format!("has {} certificates; the limit is {MAX_CHAIN}", chain.len()));
        }
        chain::check_order(&chain)?;
        let names = names(&leaf)?;
        let (_, parsed) =
            X509Certificate::from_der(&leaf).map_err(|error| format!("cannot be parsed: {error}"))?;
        let validity = Validity {
            from: parsed.validity().not_before.timestamp(),
            until: parsed.validity().not_after.timestamp(),
        };
        let serial = parsed.raw_serial().to_vec();
        let CertifiedKey { cert, key, .. } = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| format!("the key is not the first certificate's: {error}"))?;
        Ok(Self { chain: cert, key, names, validity, serial })
    }

    /// Whether a client that asked for `host`, in lower case, accepts it.
    pub(super) fn covers(&self, host: &str) -> bool {
        // RFC 6125 section 6.4.3: a wildcard stands for one label.
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(below) => parent == Some(below),
            None => **name == *host,
        })
    }

    /// Which of two that are equally valid is served where a client understands both: signing with
    /// ECDSA takes a tenth of the time of RSA.
    pub(super) fn cost(&self) -> u8 {
        match self.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        }
    }
}

/// Clients look at the subject alternative name only (RFC 9110 section 4.3.4).
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<Box<str>>, String> {
    let parsed =
        webpki::EndEntityCert::try_from(leaf).map_err(|error| format!("cannot be parsed: {error}"))?;
    let names: Vec<Box<str>> =
        parsed.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect();
    if names.is_empty() && !has_address(leaf) {
        return Err("the first certificate has no subject alternative name with a DNS name or an address, \
                    so no client accepts it; issue it anew with one"
            .to_owned());
    }
    Ok(names)
}

fn has_address(leaf: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::IPAddress(_)))
}
