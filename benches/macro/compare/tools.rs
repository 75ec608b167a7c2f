//! Programs that are not ours, and where to have them from.

use std::collections::BTreeMap;
use std::process::Command;

use super::peers::first_line;

/// Whatever is compared needs these.
const ALWAYS: [&str; 4] = ["nginx", "wrk", "h2load", "openssl"];

/// # Errors
/// When one is not installed, with the packages that Debian has them in.
pub fn require(more: &[&'static str]) -> anyhow::Result<()> {
    let missing: Vec<_> = ALWAYS.iter().chain(more).copied().filter(|program| !is_there(program)).collect();
    let packages: Vec<_> = missing.iter().map(|program| package(program)).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "not on the path: {}. On Debian: apt-get install {}; its servers are in /usr/sbin",
        missing.join(", "),
        packages.join(" ")
    );
    Ok(())
}

/// Of the load generators.
pub fn versions() -> BTreeMap<&'static str, String> {
    let wrk = first_line(Command::new("wrk").arg("-v"));
    let h2load = first_line(Command::new("h2load").arg("--version"));
    let second = |line: &str| line.split_ascii_whitespace().nth(1).unwrap_or("?").to_owned();
    BTreeMap::from([("wrk", second(&wrk)), ("h2load", second(&h2load))])
}

/// Some know no option that does nothing, so it is not run.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn package(program: &str) -> &str {
    match program {
        "nginx" => "nginx libnginx-mod-stream",
        "h2load" => "nghttp2-client",
        same => same,
    }
}
