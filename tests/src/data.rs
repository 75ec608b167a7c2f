//! What a registry's servers have on disk, and what becomes of it in a disaster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of one server's data. Nobody may write to it meanwhile: the server is down.
pub(crate) struct Data {
    live: PathBuf,
    kept: PathBuf,
}

impl Data {
    /// `kept`: where a copy may lie.
    pub(crate) fn new(live: PathBuf, kept: PathBuf) -> Self {
        Self { live, kept }
    }

    pub(crate) fn lose(&self) {
        remove(&self.live);
    }

    pub(crate) fn keep(&self) {
        remove(&self.kept);
        copy(&self.live, &self.kept).expect("the folder is ours");
    }

    /// # Panics
    /// When nothing was kept.
    pub(crate) fn go_back(&self) {
        remove(&self.live);
        copy(&self.kept, &self.live).expect("data were kept");
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", folder.display()),
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to.to_owned());
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
