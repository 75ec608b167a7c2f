//! A minimal pingora-proxy, in a crate of its own that nothing else compiles: benches/peers/pingora.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::Setup;

const CRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/pingora");
const LOCK: &str = include_str!("../../../peers/pingora/Cargo.lock");

pub fn command(setup: &Setup<'_>) -> Command {
    let Setup { site, ports, .. } = setup;
    let mut command = Command::new(Path::new(CRATE).join("target/release/pingora-peer"));
    command.args([&ports.http, &ports.https, &ports.tcp].map(|port| port.port().to_string()));
    command.arg(site.endpoint().to_string()).arg(site.certificate()).arg(site.key());
    command
}

/// Takes minutes the first time, and a moment when nothing has changed.
pub fn build() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // Its own folder for what is built, whatever this run was told.
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(CRATE)
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the pingora peer does not compile; `--peers` leaves it out");
    Ok(())
}

/// The one that it is locked to.
pub fn version() -> String {
    let after = LOCK.split_once("name = \"pingora-proxy\"\nversion = \"").map(|(_, after)| after);
    after.and_then(|after| after.split('"').next()).unwrap_or("?").to_owned()
}
