//! What an operator does with the binary, and what it tells him.

mod access_log;
mod admin;
mod check;
mod demo;
mod docs;
mod listeners;
mod log_targets;
mod reload;
mod shutdown;
mod tracing;
mod traffic;
mod tunnels;

use std::path::Path;

use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    for (path, contents) in files {
        put(folder.path(), path, contents);
    }
    folder
}

fn put(folder: &Path, path: &str, contents: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("the folder is ours");
    std::fs::write(path, contents).expect("the folder is ours");
}
