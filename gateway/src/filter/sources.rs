//! Files that filters are made of, read again when they change.
//!
//! Control plane only, but for [`Source::load`]. A file that is unreadable or wrong changes nothing: what
//! was good stays in force, and where nothing ever was, the filter lets nobody pass. The log says so
//! once, `/v1/filters`, `/v1/apps` and `sluice_config_rejects` until the file is mended.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::{ArcSwapOption, Guard};
use topology::AppId;
use topology::filters::FilePath;

/// Half a million addresses.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// All that are in use.
#[derive(Debug, Default)]
pub struct Sources(Mutex<Vec<Weak<dyn Refresh>>>);

trait Refresh: Send + Sync + std::fmt::Debug {
    fn refresh(&self);
}

/// A file's content, understood.
#[derive(Debug)]
pub struct Source<T> {
    app: AppId,
    path: FilePath,
    read: fn(&[u8]) -> Result<T, String>,
    value: ArcSwapOption<T>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    problem: Option<String>,
}

/// What tells a file's content from an earlier one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Some(Self([found.dev(), found.ino(), found.len()], times))
    }
}

impl Sources {
    /// Reads the file and watches it for as long as what is returned is held. Until it can be read
    /// `former` is in force.
    pub fn open<T: Send + Sync + std::fmt::Debug + 'static>(
        &self,
        app: &AppId,
        path: &FilePath,
        read: fn(&[u8]) -> Result<T, String>,
        former: Option<Arc<T>>,
    ) -> Arc<Source<T>> {
        let seen = Mutex::new(Seen { stamp: None, problem: None });
        let (app, path) = (app.clone(), path.clone());
        let source = Arc::new(Source { app, path, read, value: ArcSwapOption::new(former), seen });
        source.read();
        let watched: Arc<dyn Refresh> = source.clone();
        self.all().push(Arc::downgrade(&watched));
        source
    }

    /// Looks at all files again.
    pub fn refresh(&self) {
        let mut all = self.all();
        all.retain(|source| source.strong_count() > 0);
        let watched: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        watched.iter().for_each(|source| source.refresh());
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

    /// Why the file as it is now is not in force.
    pub fn problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        // Taken first, so that a change while the file is read shows later.
        let stamp = Stamp::at(&self.path);
        let read = read_file(&self.path, self.read);
        let mut seen = self.seen();
        seen.stamp = stamp;
        match read {
            Ok(value) => {
                self.value.store(Some(Arc::new(value)));
                seen.problem = None;
                tracing::info!(app = %self.app, path = %self.path.display(), "a filter's file is in force");
            }
            Err(why) => {
                tracing::warn!(app = %self.app, %why, "a filter's file changes nothing");
                seen.problem = Some(why);
            }
        }
    }
}

impl<T: Send + Sync + std::fmt::Debug> Refresh for Source<T> {
    fn refresh(&self) {
        let seen = self.seen().stamp;
        if seen != Stamp::at(&self.path) {
            self.read();
        }
    }
}

fn read_file<T>(path: &Path, read: fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    let bytes = read_bytes(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    read(&bytes).map_err(|why| format!("{}: {why}", path.display()))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    // Opening a pipe would block until somebody writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refuse("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(bytes);
        text.trim().parse().map_err(|_| "is no number".to_owned())
    }

    #[test]
    fn a_good_file_is_taken_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path: FilePath = folder.path().join("n").into();
        let (sources, app) = (Sources::default(), AppId::parse("a").unwrap());
        let source = sources.open(&app, &path, number, None);
        assert!(source.load().is_none() && source.problem().unwrap().contains("cannot be read"));
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
        let renamed = sources.open(&app, &path, number, source.load_full());
        assert_eq!(renamed.load().as_deref(), Some(&4), "the former one stays until the new one is there");
        drop((source, renamed));
        sources.refresh();
        assert_eq!(sources.all().len(), 0, "nobody watches what nobody holds");
    }
}
