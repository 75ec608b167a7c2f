//! Apps from watched files: `apps/*.toml`.
//!
//! A saved file is live a few milliseconds after its writer closed or renamed it; only that file is
//! read. A broken save changes nothing but leaves a [`Rejection`]. One thread does all of it, because
//! reading files blocks; it waits for the kernel's notices, and once a minute compares everything, since
//! notices may be lost.

mod catalogue;
mod inbox;
mod notices;
mod pattern;
mod reading;
mod source;

use std::sync::Arc;

use imbl::OrdMap;
use tokio::sync::{oneshot, watch};
use topology::{App, AppId, Rejection};

pub use pattern::{BadPattern, FilePattern};
pub use reading::read_text;

use inbox::Inbox;

/// What the files say at one moment. Cloning shares everything.
#[derive(Debug, Clone, Default)]
pub struct FileState {
    pub apps: OrdMap<AppId, FileApp>,
    /// By the file's path. The last good app of a rejected file is still in `apps`.
    pub rejections: OrdMap<Arc<str>, Rejection>,
}

/// An app and the file that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileApp {
    pub path: Arc<str>,
    pub app: Arc<App>,
}

/// The running watch over app files. Dropping it ends the watch.
#[derive(Debug)]
pub struct FileSource {
    states: watch::Receiver<FileState>,
    inbox: Arc<Inbox>,
    ended: oneshot::Receiver<()>,
}

impl FileSource {
    /// Reads all files that `patterns` match and goes on watching them. Returns when the first state is
    /// complete.
    ///
    /// # Errors
    /// When no thread can be started. A folder that is absent or cannot be watched is no error: it is
    /// looked at again and again.
    pub async fn start(patterns: Vec<FilePattern>) -> std::io::Result<Self> {
        let (publish, mut states) = watch::channel(FileState::default());
        let (end, ended) = oneshot::channel();
        let inbox = Arc::new(Inbox::default());
        let source = source::Source::new(patterns, Arc::clone(&inbox), publish);
        std::thread::Builder::new().name("app-files".to_owned()).spawn(move || {
            source.run();
            // The receiver may be gone: then nobody waits for the end.
            let _ = end.send(());
        })?;
        // An error means that the thread is gone already, and what it published is all there will be.
        let _ = states.changed().await;
        Ok(Self { states, inbox, ended })
    }

    /// The state, updated as files change.
    pub fn watch(&self) -> watch::Receiver<FileState> {
        self.states.clone()
    }

    /// A handle that asks for everything to be read again.
    pub fn reloader(&self) -> FileReloader {
        FileReloader(Arc::clone(&self.inbox))
    }

    /// Ends the watch and waits until its thread has let go of the files.
    pub async fn stop(mut self) {
        self.inbox.stop();
        // An error means that the thread panicked; it has ended all the same.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

/// Asks a [`FileSource`] to read its files again: what SIGHUP means.
#[derive(Debug, Clone)]
pub struct FileReloader(Arc<Inbox>);

impl FileReloader {
    /// Returns at once. What has not changed is not published again.
    pub fn reload(&self) {
        self.0.reread();
    }
}

#[cfg(test)]
mod tests;
