//! The certificates that the registry has, for all listeners that take them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use topology::{CertificateName, CertificatePem};

use super::certificate::Certificate;
use super::certificates::CertificateReport;

/// Written by the thread that follows the registry; listeners ask for the generation.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// One more with every change of what is in force.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: OrdMap<CertificateName, CertificatePem>,
    known: BTreeMap<CertificateName, Known>,
}

/// Without a certificate it was never good.
#[derive(Debug, Default)]
struct Known {
    certificate: Option<Arc<Certificate>>,
    /// Why what the registry has now is not in force.
    reject: Option<String>,
}

impl Registered {
    /// Takes what is new and good; what is bad keeps its former certificate. Returns whether anything is in force
    /// that was not.
    pub(super) fn follow(&self, wanted: &OrdMap<CertificateName, CertificatePem>, now: i64) -> bool {
        let mut inner = self.inner();
        let seen = std::mem::replace(&mut inner.seen, wanted.clone());
        let mut is_new = false;
        for change in seen.diff(wanted) {
            is_new |= match change {
                DiffItem::Add(name, pem) | DiffItem::Update { new: (name, pem), .. } => {
                    inner.known.entry(name.clone()).or_default().take(name, pem, now)
                }
                DiffItem::Remove(name, _) => {
                    tracing::info!(certificate = %name, "certificate removed from the registry");
                    inner.known.remove(name).is_some_and(|known| known.certificate.is_some())
                }
            };
        }
        if is_new {
            self.generation.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All that could be served, by name.
    pub(super) fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.inner().known.values().filter_map(|known| known.certificate.clone()).collect()
    }

    /// Every one that the registry has, in order.
    pub(super) fn report(&self) -> Vec<CertificateReport> {
        self.inner().known.iter().map(|(name, known)| known.report(name)).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn take(&mut self, name: &CertificateName, pem: &CertificatePem, now: i64) -> bool {
        let is_first = self.certificate.is_none();
        let read = Certificate::of_pem(pem.as_bytes()).and_then(|certificate| {
            // One that is out of date is better than none.
            let complaint = certificate.validity.complaint(now).filter(|_| !is_first);
            complaint.map_or(Ok(certificate), Err)
        });
        match read {
            Ok(certificate) => {
                tracing::info!(certificate = %name, names = ?certificate.names, "certificate of the registry in force");
                (self.certificate, self.reject) = (Some(Arc::new(certificate)), None);
                true
            }
            Err(why) => {
                let kept = if is_first { "not served" } else { "the former one stays" };
                tracing::error!(certificate = %name, %why, "certificate of the registry rejected: {kept}");
                self.reject = Some(why);
                false
            }
        }
    }

    fn report(&self, name: &CertificateName) -> CertificateReport {
        let certificate = self.certificate.as_ref();
        let names = certificate.map(|found| found.names.iter().map(ToString::to_string).collect());
        CertificateReport {
            path: PathBuf::from(format!("certificate/{name}")),
            names: names.unwrap_or_default(),
            not_before: certificate.map(|found| found.validity.from),
            not_after: certificate.map(|found| found.validity.until),
            is_stapled: false,
            reject: self.reject.clone(),
            staple_reject: None,
        }
    }
}
