//! The certificates of one set of files, replaced file by file while we serve, and those of the registry beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use discovery::file::FilePattern;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::files::{Stamp, expand};
use super::index::{Candidate, Index};
use super::ocsp::{self, Staple};
use super::registered::Registered;
use super::{TlsError, unix_now};

/// What handshakes choose from. Files are read by one thread, which alone takes the lock.
#[derive(Debug)]
pub struct Certificates {
    patterns: Vec<FilePattern>,
    /// `None`: files alone.
    registered: Option<Arc<Registered>>,
    current: ArcSwap<Index>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    known: BTreeMap<PathBuf, File>,
    /// Why the patterns could not be followed the last time.
    complaint: Option<String>,
    /// Which certificates and responses were in date when the index was made, of files and then of the registry.
    in_date: Vec<(bool, bool)>,
    /// What the registry had then, and its generation.
    registered: Vec<Arc<Certificate>>,
    generation: u64,
}

/// What is known of one file. Without a certificate it was never good.
#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    staple_stamp: Option<Stamp>,
    certificate: Option<Arc<Certificate>>,
    staple: Option<Staple>,
    /// Why what stands in the file now is not in force.
    reject: Option<String>,
    staple_reject: Option<String>,
    /// It was not there when last looked for.
    is_missing: bool,
}

/// One file, or one certificate of the registry, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReport {
    /// Of the registry: `certificate/` and its name.
    pub path: PathBuf,
    pub names: Vec<String>,
    /// Seconds since 1970; `None`: the file never held a usable certificate.
    pub not_before: Option<i64>,
    pub not_after: Option<i64>,
    pub is_stapled: bool,
    /// Why the file as it is now is not in force.
    pub reject: Option<String>,
    pub staple_reject: Option<String>,
}

impl Certificates {
    /// Reads all files. One that cannot be used is logged and left out, so that it costs nobody but its
    /// own names; one out of date is served where nothing better has its name, since a client then says
    /// what is wrong and a restart must not make things worse than they were.
    ///
    /// # Errors
    /// [`TlsError`] when a pattern matches no file, or no file of some holds a usable certificate.
    pub(super) fn load(
        patterns: &[FilePattern],
        registered: Option<Arc<Registered>>,
    ) -> Result<Arc<Self>, TlsError> {
        Self::load_at(patterns, registered, unix_now())
    }

    pub(super) fn load_at(
        patterns: &[FilePattern],
        registered: Option<Arc<Registered>>,
        now: i64,
    ) -> Result<Arc<Self>, TlsError> {
        let mut files = Files::default();
        for path in expand(patterns)? {
            let mut file = File::default();
            file.look(&path, Start::Yes, now);
            files.known.insert(path, file);
        }
        if !patterns.is_empty() && files.known.values().all(|file| file.certificate.is_none()) {
            let why = |(path, file): (&PathBuf, &File)| {
                format!("{}: {}", path.display(), file.reject.as_deref().unwrap_or_default())
            };
            let all: Vec<_> = files.known.iter().map(why).collect();
            return Err(TlsError::NoCertificate(all.join("; ")));
        }
        if let Some(registered) = &registered {
            files.follow(registered);
        }
        let current = ArcSwap::from_pointee(files.index(now));
        Ok(Arc::new(Self { patterns: patterns.to_vec(), registered, current, files: Mutex::new(files) }))
    }

    /// Looks at the files again and takes what is new and good; returns whether anything is. A bad file
    /// keeps its former certificate and is logged once per change.
    pub fn refresh(&self) -> bool {
        self.refresh_at(unix_now())
    }

    pub(super) fn refresh_at(&self, now: i64) -> bool {
        let mut files = self.files();
        let mut is_new = files.look(&self.patterns, now);
        is_new |= self.registered.as_ref().is_some_and(|registered| files.follow(registered));
        let has_lapsed = !is_new && files.tell_what_lapsed(now);
        if is_new || has_lapsed {
            let index = files.index(now);
            self.current.store(Arc::new(index));
        }
        is_new
    }

    /// Whether a client that has verified us as `sni` may ask for `host` on this connection: the two are
    /// the same, or one certificate covers both (RFC 9110 section 15.5.20). Both in lower case.
    pub fn same_identity(&self, sni: &str, host: &str) -> bool {
        sni == host || self.current.load().share_certificate(sni, host)
    }

    /// Takes what the registry has now, without a look at the files.
    pub(super) fn follow_registry(&self) {
        let Some(registered) = &self.registered else { return };
        let mut files = self.files();
        if files.follow(registered) {
            let index = files.index(unix_now());
            self.current.store(Arc::new(index));
        }
    }

    /// Every file, in order, then every one of the registry.
    pub fn report(&self) -> Vec<CertificateReport> {
        let now = unix_now();
        let mut reports: Vec<_> =
            self.files().known.iter().map(|(path, file)| file.report(path, now)).collect();
        reports.extend(self.registered.iter().flat_map(|registered| registered.report()));
        reports
    }

    /// The leaf that such a client is served.
    #[cfg(test)]
    pub(super) fn chosen(&self, name: Option<&str>, schemes: &[rustls::SignatureScheme]) -> Option<Vec<u8>> {
        let index = self.current.load();
        index.choose(name, schemes).map(|chosen| chosen.certificate.chain[0].to_vec())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.current.load();
        index.choose(hello.server_name(), hello.signature_schemes()).map(|chosen| chosen.key.clone())
    }
}

impl Files {
    /// Returns whether the registry has others in force than before.
    fn follow(&mut self, registered: &Registered) -> bool {
        // Before the list: what changes in between is seen again.
        let generation = registered.generation();
        if generation == self.generation {
            return false;
        }
        (self.generation, self.registered) = (generation, registered.certificates());
        true
    }

    /// Returns whether a certificate or a response came, changed or went.
    fn look(&mut self, patterns: &[FilePattern], now: i64) -> bool {
        let paths = match expand(patterns) {
            Ok(paths) => paths,
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(%error, "certificates: the former ones stay");
                }
                self.complaint = Some(complaint);
                return false;
            }
        };
        self.complaint = None;
        let mut is_new = self.forget_missing(&paths);
        for path in paths {
            let file = self.known.entry(path.clone()).or_default();
            file.is_missing = false;
            is_new |= file.look(&path, Start::No, now);
        }
        is_new
    }

    /// A file that is replaced by removing and writing it may be missed once: only one that is missing
    /// twice in a row is gone.
    fn forget_missing(&mut self, paths: &[PathBuf]) -> bool {
        let is_there = |path: &PathBuf| paths.binary_search(path).is_ok();
        let before = self.known.len();
        self.known.retain(|path, file| {
            let gone = !is_there(path) && file.is_missing;
            if gone {
                tracing::info!(file = %path.display(), "certificate removed");
            }
            !gone
        });
        self.known
            .iter_mut()
            .filter(|(path, _)| !is_there(path))
            .for_each(|(_, file)| file.is_missing = true);
        self.known.len() != before
    }

    fn in_date_at(&self, now: i64) -> Vec<(bool, bool)> {
        let of = |file: &File| {
            let is_valid = file.certificate.as_ref().is_some_and(|found| found.validity.holds(now));
            (is_valid, file.staple.as_ref().is_some_and(|staple| staple.is_fresh(now)))
        };
        let registered = self.registered.iter().map(|certificate| (certificate.validity.holds(now), false));
        self.known.values().map(of).chain(registered).collect()
    }

    /// Whether something began or ceased to be in date since the index was made.
    fn tell_what_lapsed(&self, now: i64) -> bool {
        let in_date = self.in_date_at(now);
        for ((path, _), (before, after)) in self.known.iter().zip(self.in_date.iter().zip(&in_date)) {
            if before.1 && !after.1 {
                let file = ocsp::path_beside(path);
                tracing::warn!(file = %file.display(), "OCSP response out of date: no longer stapled");
            }
        }
        self.in_date != in_date
    }

    fn index(&mut self, now: i64) -> Index {
        self.in_date = self.in_date_at(now);
        let files = self.known.values().zip(&self.in_date).filter_map(|(file, (is_valid, is_fresh))| {
            let staple = file.staple.as_ref().filter(|_| *is_fresh).map(|staple| staple.der.clone());
            Some(Candidate::new(file.certificate.clone()?, staple, *is_valid))
        });
        let of_registry = self.registered.iter().zip(&self.in_date[self.known.len()..]);
        let of_registry = of_registry
            .map(|(certificate, (is_valid, _))| Candidate::new(certificate.clone(), None, *is_valid));
        Index::new(files.chain(of_registry).collect())
    }
}

/// Whether there is nothing yet that could stay in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Yes,
    No,
}

impl File {
    /// Returns whether what is in force has changed.
    fn look(&mut self, path: &Path, start: Start, now: i64) -> bool {
        let staple_path = ocsp::path_beside(path);
        let (stamp, staple_stamp) = (Stamp::of(path), Stamp::of(&staple_path));
        let mut is_new = false;
        if stamp != self.stamp {
            self.stamp = stamp;
            is_new = self.read(path, start, now);
        }
        if is_new || staple_stamp != self.staple_stamp {
            self.staple_stamp = staple_stamp;
            is_new |= self.read_staple(&staple_path, staple_stamp.is_some(), now);
        }
        is_new
    }

    fn read(&mut self, path: &Path, start: Start, now: i64) -> bool {
        let file = path.display();
        let read = Certificate::read(path).and_then(|certificate| match certificate.validity.complaint(now) {
            Some(why) if start == Start::No => Err(why),
            Some(why) => {
                tracing::error!(%file, %why, "certificate out of date: served only where no other has its name");
                Ok(certificate)
            }
            None => Ok(certificate),
        });
        match read {
            Ok(certificate) => {
                if start == Start::No {
                    tracing::info!(%file, names = ?certificate.names, "new certificate in force");
                }
                self.certificate = Some(Arc::new(certificate));
                self.reject = None;
                true
            }
            Err(why) => {
                let kept = if self.certificate.is_some() { "the former one stays" } else { "not served" };
                tracing::error!(%file, %why, "certificate rejected: {kept}");
                self.reject = Some(why);
                false
            }
        }
    }

    fn read_staple(&mut self, path: &Path, exists: bool, now: i64) -> bool {
        let Some(certificate) = self.certificate.as_ref().filter(|_| exists) else {
            self.staple_reject = None;
            return self.staple.take().is_some();
        };
        match ocsp::read(path, &certificate.serial, now) {
            Ok(staple) => {
                self.staple = Some(staple);
                self.staple_reject = None;
                true
            }
            Err(why) => {
                tracing::warn!(file = %path.display(), %why, "OCSP response rejected: nothing is stapled");
                self.staple_reject = Some(why);
                self.staple.take().is_some()
            }
        }
    }

    fn report(&self, path: &Path, now: i64) -> CertificateReport {
        let certificate = self.certificate.as_ref();
        let stale = self.staple.as_ref().and_then(|staple| staple.complaint(now));
        CertificateReport {
            path: path.to_owned(),
            names: certificate
                .map(|found| found.names.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            not_before: certificate.map(|found| found.validity.from),
            not_after: certificate.map(|found| found.validity.until),
            is_stapled: self.staple.is_some() && stale.is_none(),
            reject: self.reject.clone(),
            staple_reject: self.staple_reject.clone().or(stale),
        }
    }
}
