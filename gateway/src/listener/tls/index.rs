//! Which certificate answers which name.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Immutable; made anew whenever a file changes, or begins or ceases to be valid.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By DNS name; wildcards by what follows `*.`. The best candidate first.
    exact: HashMap<Box<str>, Vec<Arc<Candidate>>>,
    wildcard: HashMap<Box<str>, Vec<Arc<Candidate>>>,
    /// For clients that name no host, or none that we know: the first file that is valid.
    fallback: Vec<Arc<Candidate>>,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) certificate: Arc<Certificate>,
    /// With the response to staple, if there is one that is fresh.
    pub(super) key: Arc<CertifiedKey>,
    pub(super) is_valid: bool,
}

impl Candidate {
    pub(super) fn new(certificate: Arc<Certificate>, staple: Option<Vec<u8>>, is_valid: bool) -> Arc<Self> {
        let mut key = CertifiedKey::new(certificate.chain.clone(), certificate.key.clone());
        key.ocsp = staple;
        Arc::new(Self { certificate, key: Arc::new(key), is_valid })
    }

    fn fits(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

impl Index {
    /// `candidates` in the order of their files.
    pub(super) fn new(mut candidates: Vec<Arc<Candidate>>) -> Self {
        let mut index = Self::default();
        candidates.sort_by_key(|candidate| !candidate.is_valid);
        index.fallback.clone_from(&candidates);
        candidates.sort_by_key(|candidate| {
            let certificate = &candidate.certificate;
            (!candidate.is_valid, certificate.cost(), Reverse(certificate.validity.until))
        });
        for candidate in candidates {
            for name in &candidate.certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut index.wildcard, parent),
                    None => (&mut index.exact, &**name),
                };
                map.entry(name.into()).or_default().push(candidate.clone());
            }
        }
        index
    }

    /// In lower case. The exact ones first; empty for a name that no certificate has.
    fn named(&self, name: &str) -> impl Iterator<Item = &Arc<Candidate>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        // RFC 6125 section 6.4.3: a wildcard stands for one label.
        let wildcard = name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).into_iter().chain(wildcard).flatten()
    }

    /// A valid one that the client can verify; else one that it can verify and that says itself what is
    /// wrong with it; else any, since a handshake that fails for its kind of key tells more than none.
    pub(super) fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<Candidate>> {
        let named = || name.into_iter().flat_map(|name| self.named(name));
        pick(named, schemes).or_else(|| pick(|| self.fallback.iter(), schemes))
    }

    /// Whether a client that verified us as `sni` may ask for `host`, both in lower case.
    pub(super) fn share_certificate(&self, sni: &str, host: &str) -> bool {
        let mut mine = self.named(sni).peekable();
        if mine.peek().is_none() {
            // It got the fallback certificate, and so would the host.
            return self.named(host).next().is_none()
                || self.fallback.first().is_some_and(|candidate| candidate.certificate.covers(host));
        }
        mine.any(|candidate| candidate.certificate.covers(host))
    }
}

fn pick<'a, I: Iterator<Item = &'a Arc<Candidate>>>(
    candidates: impl Fn() -> I,
    schemes: &[SignatureScheme],
) -> Option<&'a Arc<Candidate>> {
    candidates()
        .find(|candidate| candidate.is_valid && candidate.fits(schemes))
        .or_else(|| candidates().find(|candidate| candidate.fits(schemes)))
        .or_else(|| candidates().next())
}
