//! Certificates that sign themselves, and a client that trusts one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::{DEADLINE, Finished, finish};

/// A self-signed certificate for `host` as `{host}.crt`; returned with its key in one PEM, as operators
/// keep them.
pub fn certificate(folder: &Path, host: &str) -> String {
    let (key, chain) = (folder.join(format!("{host}.key")), folder.join(format!("{host}.crt")));
    let report = finish(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &format!("/CN={host}")])
            .args(["-addext", &format!("subjectAltName=DNS:{host}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&chain),
        "",
        DEADLINE,
    );
    assert_eq!(report.code, Some(0), "{}", report.text());
    let read = |path| std::fs::read_to_string(path).expect("openssl wrote it");
    read(&chain) + &read(&key)
}

/// Asks `host` at `address`, trusting nobody but `{trusted}.crt`.
pub fn curl(address: SocketAddr, folder: &Path, host: &str, trusted: &str, more: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*"])
        .args(["--resolve", &format!("{host}:{}:127.0.0.1", address.port())])
        .arg("--cacert")
        .arg(folder.join(format!("{trusted}.crt")))
        .args(more)
        .arg(format!("https://{host}:{}/", address.port()));
    finish(&mut command, "", DEADLINE)
}
