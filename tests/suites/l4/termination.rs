//! TLS that ends at a TCP listener.

use std::process::Command;

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Gateway, RawEndpoint, certificate, finish};

use crate::pattern;

fn gateway(folder: &std::path::Path, endpoint: &RawEndpoint) -> Gateway {
    let lines = [r#"protocol = "tcp""#, r#"app = "db""#, r#"tls = { certificates = ["tls/*.pem"] }"#];
    let config = Config::new()
        .app(&App::new("db").tcp_endpoint("v1", "c1", endpoint.address()))
        .listener("db", &lines)
        .file("tls/it.pem", &certificate(folder, "db.test"));
    Gateway::start(&config)
}

#[test]
fn the_endpoint_gets_what_was_inside() {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let endpoint = RawEndpoint::start(|wire, _| {
        let line = wire.exactly(6)?;
        assert_eq!(line, b"hello\n");
        wire.send(b"and welcome\n")
    });
    let gateway = gateway(folder.path(), &endpoint);
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-verify_return_error", "-servername", "db.test"])
        .args(["-connect", &gateway.listener("db").to_string(), "-CAfile"])
        .arg(folder.path().join("db.test.crt"));
    let answer = finish(&mut command, "hello\n", DEADLINE);
    assert!(answer.stdout.contains("and welcome"), "{}", answer.text());
    assert_eq!(endpoint.received(), [b"hello\n"]);
}

#[test]
fn long_streams_come_out_of_tls_whole() {
    const BYTES: usize = 8 << 20;
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let endpoint = RawEndpoint::start(|wire, _| {
        wire.exactly(4)?;
        wire.send(&pattern(BYTES))
    });
    let gateway = gateway(folder.path(), &endpoint);
    let address = gateway.listener("db");
    let body = folder.path().join("body");
    // gopher:// sends a selector and takes what comes, to the end of the stream.
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
        .args(["--resolve", &format!("db.test:{}:127.0.0.1", address.port()), "--cacert"])
        .arg(folder.path().join("db.test.crt"))
        .arg("--output")
        .arg(&body)
        .arg(format!("gophers://db.test:{}/1go", address.port()));
    let answer = finish(&mut command, "", DEADLINE * 2);
    assert_eq!(answer.code, Some(0), "{}", answer.text());
    assert!(std::fs::read(&body).expect("curl wrote it") == pattern(BYTES));
}
