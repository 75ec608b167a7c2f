//! What filters are made of that is not in the app's spec: files, read again when they change, and what is
//! fetched, again and again.
//!
//! Control plane only, but for [`Source::load`]. What is unreadable or wrong changes nothing: what was good
//! stays in force, and where nothing ever was, the filter lets nobody pass. The log says so once,
//! `/v1/apps` and `sluice_config_rejects` until it is mended.

mod file;
mod remote;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use topology::AppId;
use topology::filters::FilePath;

use self::file::Stamp;

/// After a failure, and the soonest that somebody's wish for fresher content is granted: whoever sends
/// tokens with invented keys must not have us flood their provider.
const MIN_REFETCH: Duration = Duration::from_secs(10);

/// All that are in use.
#[derive(Debug, Default)]
pub struct Sources(Mutex<Vec<Weak<dyn Refresh>>>);

trait Refresh: Send + Sync + Debug {
    /// Reads a file again that has changed.
    fn refresh(&self);
    /// What is to be fetched now.
    fn due(&self, now: Instant) -> Option<Arc<str>>;
    fn take(&self, fetched: Result<Vec<u8>, String>);
}

/// Content, understood.
#[derive(Debug)]
pub struct Source<T> {
    app: AppId,
    place: Place,
    read: fn(&[u8]) -> Result<T, String>,
    value: ArcSwapOption<T>,
    seen: Mutex<Seen>,
    /// Somebody has missed something in it.
    is_outdated: AtomicBool,
}

#[derive(Debug)]
enum Place {
    File(FilePath),
    Url { url: Arc<str>, every: Duration },
}

#[derive(Debug, Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// When it was asked for last; until then it is due.
    fetched: Option<Instant>,
    problem: Option<String>,
}

impl Sources {
    /// Reads the file and watches it for as long as what is returned is held. Until it can be read
    /// `former` is in force.
    pub fn open<T: Send + Sync + Debug + 'static>(
        &self,
        app: &AppId,
        path: &FilePath,
        read: fn(&[u8]) -> Result<T, String>,
        former: Option<Arc<T>>,
    ) -> Arc<Source<T>> {
        let source = self.add(app, Place::File(path.clone()), read, former);
        source.read_file(path);
        source
    }

    /// As [`Self::open`], of what [`Self::fetch_due`] fetches at once, and then that often.
    pub fn fetch<T: Send + Sync + Debug + 'static>(
        &self,
        app: &AppId,
        url: &Arc<str>,
        every: Duration,
        read: fn(&[u8]) -> Result<T, String>,
        former: Option<Arc<T>>,
    ) -> Arc<Source<T>> {
        self.add(app, Place::Url { url: url.clone(), every }, read, former)
    }

    fn add<T: Send + Sync + Debug + 'static>(
        &self,
        app: &AppId,
        place: Place,
        read: fn(&[u8]) -> Result<T, String>,
        former: Option<Arc<T>>,
    ) -> Arc<Source<T>> {
        let source = Arc::new(Source {
            app: app.clone(),
            place,
            read,
            value: ArcSwapOption::new(former),
            seen: Mutex::default(),
            is_outdated: AtomicBool::new(false),
        });
        let watched: Arc<dyn Refresh> = source.clone();
        self.all().push(Arc::downgrade(&watched));
        source
    }

    /// Looks at all files again.
    pub fn refresh(&self) {
        self.held().iter().for_each(|source| source.refresh());
    }

    /// Begins to fetch whatever is due. Must be called within a tokio runtime.
    pub fn fetch_due(&self, now: Instant) {
        for source in self.held() {
            if let Some(url) = source.due(now) {
                tokio::spawn(async move {
                    let fetched = remote::fetch(&url).await;
                    source.take(fetched.map(|bytes| bytes.to_vec()));
                });
            }
        }
    }

    fn held(&self) -> Vec<Arc<dyn Refresh>> {
        let mut all = self.all();
        all.retain(|source| source.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Refresh>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Source<T> {
    /// What is in force; `None`: nothing was ever read.
    pub fn load(&self) -> Guard<Option<Arc<T>>> {
        self.value.load()
    }

    pub fn load_full(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// Asks for it to be fetched sooner; called by workers.
    pub fn outdated(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    /// Why it is not in force as it is now.
    pub fn problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    fn read_file(&self, path: &FilePath) {
        // Taken first, so that a change while the file is read shows later.
        self.seen().stamp = Stamp::at(path);
        self.understand(file::read(path).map_err(|error| format!("cannot be read: {error}")));
    }

    fn understand(&self, content: Result<Vec<u8>, String>) {
        let place = self.place.show();
        match content.and_then(|bytes| (self.read)(&bytes)) {
            Ok(value) => {
                self.value.store(Some(Arc::new(value)));
                self.seen().problem = None;
                tracing::debug!(app = %self.app, %place, "a filter's source is in force");
            }
            Err(why) => {
                let why = format!("{place}: {why}");
                let former = self.seen().problem.replace(why.clone());
                if former.as_ref() != Some(&why) {
                    tracing::warn!(app = %self.app, %why, "a filter's source changes nothing");
                }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn show(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url { url, .. } => url.to_string(),
        }
    }
}

impl<T: Send + Sync + Debug> Refresh for Source<T> {
    fn refresh(&self) {
        if let Place::File(path) = &self.place {
            let seen = self.seen().stamp;
            if seen != Stamp::at(path) {
                self.read_file(path);
            }
        }
    }

    fn due(&self, now: Instant) -> Option<Arc<str>> {
        let Place::Url { url, every } = &self.place else { return None };
        let mut seen = self.seen();
        let hurries = seen.problem.is_some() || self.is_outdated.load(Ordering::Relaxed);
        let every = if hurries { MIN_REFETCH.min(*every) } else { *every };
        if seen.fetched.is_some_and(|fetched| now < fetched + every) {
            return None;
        }
        seen.fetched = Some(now);
        self.is_outdated.store(false, Ordering::Relaxed);
        Some(url.clone())
    }

    fn take(&self, fetched: Result<Vec<u8>, String>) {
        self.understand(fetched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(bytes);
        text.trim().parse().map_err(|_| "is no number".to_owned())
    }

    fn app() -> AppId {
        AppId::parse("a").unwrap()
    }

    #[test]
    fn a_good_file_is_taken_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path: FilePath = folder.path().join("n").into();
        let sources = Sources::default();
        let source = sources.open(&app(), &path, number, None);
        assert!(source.load().is_none() && source.problem().unwrap().contains("n: cannot be read"));
        let value = || source.load().as_deref().copied();
        let change = |text: &str| {
            std::fs::write(folder.path().join("staged"), text).unwrap();
            std::fs::rename(folder.path().join("staged"), &path).unwrap();
            sources.refresh();
        };
        change("2");
        assert_eq!((value(), source.problem()), (Some(2), None));
        change("three");
        assert_eq!(value(), Some(2));
        assert!(source.problem().unwrap().ends_with("n: is no number"));
        change("4");
        assert_eq!((value(), source.problem()), (Some(4), None));
        let path: FilePath = folder.path().join("other").into();
        let renamed = sources.open(&app(), &path, number, source.load_full());
        assert_eq!(renamed.load().as_deref(), Some(&4), "the former one stays until the new one is there");
        drop((source, renamed));
        assert_eq!(sources.held().len(), 0, "nobody watches what nobody holds");
    }

    #[test]
    fn what_is_fetched_is_asked_for_now_and_then_and_sooner_when_it_fails() {
        let (sources, start) = (Sources::default(), Instant::now());
        let url: Arc<str> = "http://id.test/keys".into();
        let every = Duration::from_secs(300);
        let source = sources.fetch(&app(), &url, every, number, None);
        let due = |seconds| source.due(start + Duration::from_secs(seconds)).is_some();
        assert!(due(0) && !due(9));
        source.take(Err("no answer".to_owned()));
        assert!(due(10) && !due(19), "a failure is followed by another try");
        source.take(Ok(b"7".to_vec()));
        assert_eq!((source.load().as_deref(), source.problem()), (Some(&7), None));
        assert!(!due(100));
        source.outdated();
        assert!(due(100) && !due(399) && due(400));
        source.outdated();
        assert!(!due(405), "whoever wishes for it often gets it no more often");
        source.take(Err("no answer".to_owned()));
        assert_eq!(source.load().as_deref(), Some(&7), "what was good stays");
    }
}
