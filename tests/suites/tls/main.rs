//! TLS, asked by curl, openssl and sslscan, with certificates that openssl made.

mod admission;
mod check;
mod https;
mod listeners;
mod pki;
mod registered;
mod reload;
mod upstream;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tests::{DEADLINE, Finished, finish};

/// Asks for `host` at `address`, trusting `ca`.
#[track_caller]
fn curl(address: SocketAddr, ca: &Path, host: &str, more: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--http1.1"])
        .args(["--resolve", &format!("{host}:{}:127.0.0.1", address.port())])
        .arg("--cacert")
        .arg(ca)
        .args(more)
        .arg(format!("https://{host}:{}/", address.port()));
    finish(&mut command, "", DEADLINE)
}

/// `openssl s_client`, which ends once the handshake is over and its input is.
#[track_caller]
fn s_client(address: SocketAddr, more: &[&str]) -> Finished {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]).args(more);
    finish(&mut command, "Q\n", DEADLINE)
}
