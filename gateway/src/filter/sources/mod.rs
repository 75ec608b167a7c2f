//! What filters are made of that is not in the app's spec: files, read again when they change, and what is
//! fetched, again and again.
//!
//! Control plane only, but for [`Source::load`]. What is unreadable or wrong changes nothing: what was good
//! stays in force, and where nothing ever was, the filter lets nobody pass. The log says so once,
//! `/v1/apps` and `sluice_config_rejects` until it is mended.

mod file;
mod reach;
mod remote;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use ipnet::IpNet;
use tokio::sync::Semaphore;
use topology::AppId;
use topology::filters::FilePath;

use self::file::Stamp;
use self::reach::Reach;

/// After a first failure, and the soonest that somebody's wish for fresher content is granted: whoever sends
/// tokens with invented keys must not have us flood their provider.
const MIN_REFETCH: Duration = Duration::from_secs(10);
/// What waiting after failures doubles up to: an outage of a provider's is over for us soon after it is for others.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Of all apps at a time. Each has a socket and at most a quarter of a MiB; one that hangs gives its place back
/// in five seconds.
const MAX_FETCHES: usize = 32;

/// All that are in use.
#[derive(Debug)]
pub struct Sources {
    all: Mutex<Vec<Weak<dyn Refresh>>>,
    reach: Reach,
    fetches: Arc<Semaphore>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::reaching(&[])
    }
}

trait Refresh: Send + Sync + Debug {
    /// Reads a file again that has changed.
    fn refresh(&self);
    /// What is to be fetched now.
    fn due(&self, now: Instant) -> Option<Arc<str>>;
    /// `dice`: from 0 to 1, so that those who began together do not go on so.
    fn take(&self, fetched: Result<Vec<u8>, String>, now: Instant, dice: f64);
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
    problem: Option<String>,
    fetch: Fetch,
}

/// When something is fetched.
#[derive(Debug, Default)]
struct Fetch {
    /// `None`: never yet.
    begun: Option<Instant>,
    /// Under way, or waiting for its place.
    is_on: bool,
    /// `None`: at once.
    next: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Fetch {
    fn is_due(&self, now: Instant, every: Duration, hurries: bool) -> bool {
        let hurried = self.begun.filter(|_| hurries && self.failures == 0);
        let sooner = hurried.map(|begun| begun + MIN_REFETCH.min(every));
        let at = self.next.map(|next| sooner.map_or(next, |sooner| sooner.min(next)));
        !self.is_on && at.is_none_or(|at| now >= at)
    }

    /// Up to a tenth sooner than said; after failures later and later, by half of it or more.
    fn ended(&mut self, is_good: bool, now: Instant, every: Duration, dice: f64) {
        self.is_on = false;
        self.failures = if is_good { 0 } else { self.failures.saturating_add(1) };
        let wait = match self.failures {
            0 => every.mul_f64(1.0 - 0.1 * dice),
            failures => {
                let most = MAX_BACKOFF.min(every);
                let doubled = MIN_REFETCH.saturating_mul(1 << (failures - 1).min(16));
                doubled.min(most).mul_f64(0.5 + 0.5 * dice)
            }
        };
        self.next = Some(now + wait);
    }
}

impl Sources {
    /// `allowed`: networks of this machine and its surroundings that apps may have something fetched from.
    pub fn reaching(allowed: &[IpNet]) -> Self {
        let fetches = Arc::new(Semaphore::new(MAX_FETCHES));
        Self { all: Mutex::default(), reach: Reach::new(allowed), fetches }
    }

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
        let source = self.add(app, Place::Url { url: url.clone(), every }, read, former);
        if let Err(why) = self.reach.check_url(url) {
            source.understand(Err(why));
        }
        source
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
            let Some(url) = source.due(now) else { continue };
            let (source, reach, fetches) =
                (Arc::downgrade(&source), self.reach.clone(), self.fetches.clone());
            tokio::spawn(async move {
                // It is never closed.
                let Ok(place) = fetches.acquire_owned().await else { return };
                // Nobody may want it any more.
                let Some(source) = source.upgrade() else { return };
                let fetched = remote::fetch(&url, &reach, place).await;
                source.take(fetched.map(|bytes| bytes.to_vec()), Instant::now(), fastrand::f64());
            });
        }
    }

    fn held(&self) -> Vec<Arc<dyn Refresh>> {
        let mut all = self.all();
        all.retain(|source| source.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Refresh>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether it is in force.
    fn understand(&self, content: Result<Vec<u8>, String>) -> bool {
        let place = self.place.show();
        match content.and_then(|bytes| (self.read)(&bytes)) {
            Ok(value) => {
                self.value.store(Some(Arc::new(value)));
                self.seen().problem = None;
                tracing::debug!(app = %self.app, %place, "a filter's source is in force");
                true
            }
            Err(why) => {
                let why = format!("{place}: {why}");
                let former = self.seen().problem.replace(why.clone());
                if former.as_ref() != Some(&why) {
                    tracing::warn!(app = %self.app, %why, "a filter's source changes nothing");
                }
                false
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
        if !seen.fetch.is_due(now, *every, self.is_outdated.load(Ordering::Relaxed)) {
            return None;
        }
        (seen.fetch.begun, seen.fetch.is_on) = (Some(now), true);
        self.is_outdated.store(false, Ordering::Relaxed);
        Some(url.clone())
    }

    fn take(&self, fetched: Result<Vec<u8>, String>, now: Instant, dice: f64) {
        let is_good = self.understand(fetched);
        if let Place::Url { every, .. } = &self.place {
            self.seen().fetch.ended(is_good, now, *every, dice);
        }
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

    fn fetched(every: u64) -> (Sources, Arc<Source<u32>>, Instant) {
        let (sources, url) = (Sources::default(), Arc::from("http://id.test/keys"));
        let source = sources.fetch(&app(), &url, Duration::from_secs(every), number, None);
        (sources, source, Instant::now())
    }

    const BAD: Result<Vec<u8>, String> = Err(String::new());

    #[test]
    fn what_is_fetched_is_asked_for_now_and_then_and_sooner_when_it_is_missed() {
        let (_sources, source, start) = fetched(300);
        let at = |seconds| start + Duration::from_secs(seconds);
        let due = |seconds| source.due(at(seconds)).is_some();
        assert!(due(0) && !due(1_000), "one at a time");
        source.take(Ok(b"7".to_vec()), at(1), 0.0);
        assert_eq!((source.load().as_deref(), source.problem()), (Some(&7), None));
        assert!(!due(300));
        source.outdated();
        assert!(due(10), "somebody misses something");
        source.take(Ok(b"7".to_vec()), at(11), 1.0);
        source.outdated();
        assert!(!due(19), "whoever wishes for it often gets it no more often");
        assert!(due(20));
        source.take(Ok(b"7".to_vec()), at(20), 1.0);
        assert!(!due(289) && due(290), "up to a tenth sooner");
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits() {
        let (_sources, source, start) = fetched(3_600);
        let mut now = start;
        let mut waits = Vec::new();
        for dice in [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0] {
            assert!(source.due(now).is_some());
            source.take(BAD, now, dice);
            let ended = now;
            source.outdated();
            while source.due(now).is_none() {
                now += Duration::from_secs(1);
            }
            source.seen().fetch.is_on = false;
            waits.push((now - ended).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 40, 160, 300, 300]);
        source.take(Ok(b"7".to_vec()), now, 0.0);
        source.due(now + Duration::from_secs(3_600)).expect("an hour has passed");
        source.take(BAD, now, 1.0);
        assert_eq!(source.load().as_deref(), Some(&7), "what was good stays");
        assert!(source.due(now + Duration::from_secs(10)).is_some(), "and waits begin anew");
    }

    #[tokio::test]
    async fn apps_have_no_more_fetched_at_a_time_than_there_are_places() {
        // Nobody answers: these are the only connections there, and the kernel keeps them.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let sources = Sources::reaching(&["127.0.0.0/8".parse().unwrap()]);
        let url = |at| Arc::from(format!("http://{}/{at}", listener.local_addr().unwrap()));
        let every = Duration::from_secs(300);
        let all: Vec<_> =
            (0..2 * MAX_FETCHES).map(|at| sources.fetch(&app(), &url(at), every, number, None)).collect();
        sources.fetch_due(Instant::now());
        let mut open = Vec::new();
        while open.len() < MAX_FETCHES {
            tokio::task::yield_now().await;
            open.extend(listener.accept());
        }
        assert_eq!(sources.fetches.available_permits(), 0);
        assert!(listener.accept().is_err(), "the others wait");
        // Whoever has an answer, of whatever kind, makes room.
        drop(open.pop());
        while open.len() < MAX_FETCHES {
            tokio::task::yield_now().await;
            open.extend(listener.accept());
        }
        drop(all);
    }

    #[tokio::test]
    async fn nothing_is_asked_at_an_address_that_is_out_of_reach() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let sources = Sources::default();
        // A name, so that it is known only when it has been resolved.
        let url = Arc::from(format!("http://localhost:{}/", listener.local_addr().unwrap().port()));
        let source = sources.fetch(&app(), &url, Duration::from_secs(300), number, None);
        assert_eq!(source.problem(), None);
        sources.fetch_due(Instant::now());
        while source.problem().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(source.problem().unwrap().contains("gateway.jwks_networks"), "{:?}", source.problem());
        assert!(listener.accept().is_err());
        let url = Arc::from("http://169.254.169.254/latest");
        let source = sources.fetch(&app(), &url, Duration::from_secs(300), number, None);
        assert!(source.problem().unwrap().contains("gateway.jwks_networks"), "said at once");
    }
}
