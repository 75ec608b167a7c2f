//! Debian's Python, the one that has Debian's packages.

use std::path::Path;
use std::process::Command;

pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A script of the suite, to be given its arguments. It says itself which package it misses.
///
/// # Panics
/// When there is no such script.
#[track_caller]
pub fn python(script: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites").join(script);
    assert!(path.is_file(), "no script at {}", path.display());
    let mut command = Command::new(PYTHON);
    // -B: nothing is written beside the scripts. -u: what is printed is there at once.
    command.args(["-B", "-u"]).arg(path);
    // Clients are to come to us, whatever this machine's way to the internet is.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}
