//! TLS listeners, asked by curl.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::{Config, DEADLINE, Endpoint, Finished, Gateway, finish};

use crate::folder;

/// A self-signed certificate for `host` with its key in one PEM, as operators keep them.
pub(super) fn certificate(folder: &Path, host: &str) -> String {
    let (key, chain) = (folder.join(format!("{host}.key")), folder.join(format!("{host}.crt")));
    let report = finish(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args([
                "-days",
                "2",
                "-subj",
                &format!("/CN={host}"),
                "-addext",
                &format!("subjectAltName=DNS:{host}"),
            ])
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

/// A gateway with certificates for a.test and b.test, which lie in the folder.
fn gateway() -> (Gateway, Endpoint, TempDir) {
    let endpoint = Endpoint::start("c1");
    let folder = folder(&[]);
    let mut config = Config::in_front_of(endpoint.address())
        .listener("web-tls", &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#]);
    for host in ["a.test", "b.test"] {
        config = config.file(&format!("tls/{host}.pem"), &certificate(folder.path(), host));
    }
    (Gateway::start(&config), endpoint, folder)
}

pub(super) fn curl(gateway: &Gateway, folder: &Path, host: &str, trusted: &str, more: &[&str]) -> Finished {
    let address = gateway.listener("web-tls");
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

#[test]
fn the_certificate_is_picked_by_server_name() {
    let (gateway, endpoint, folder) = gateway();
    for host in ["a.test", "b.test"] {
        let answer = curl(&gateway, folder.path(), host, host, &["--http1.1"]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
        assert_eq!(endpoint.last().fields.get("x-forwarded-proto"), Some("https"));
    }
    // A client that trusts the other certificate only must not be content.
    let answer = curl(&gateway, folder.path(), "a.test", "b.test", &["--http1.1"]);
    assert_eq!(answer.code, Some(60), "{}", answer.text());
}

#[test]
fn a_client_that_offers_more_protocols_is_answered_as_well() {
    let (gateway, _endpoint, folder) = gateway();
    let answer = curl(&gateway, folder.path(), "a.test", "a.test", &[]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
}

#[test]
fn both_versions_of_tls_that_are_in_use_are_spoken() {
    let (gateway, _endpoint, folder) = gateway();
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let answer = curl(&gateway, folder.path(), "a.test", "a.test", version);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{version:?}: {}", answer.text());
    }
}

#[test]
fn large_bodies_pass_through_tls() {
    let (gateway, endpoint, folder) = gateway();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 3 << 20]).expect("the folder is ours");
    let data = format!("@{}", body.display());
    let answer = curl(&gateway, folder.path(), "a.test", "a.test", &["--http1.1", "--data-binary", &data]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
    assert_eq!(endpoint.last().body.len(), 3 << 20);
}

#[test]
fn plain_text_on_a_tls_listener_ends_the_connection() {
    let (gateway, endpoint, _folder) = gateway();
    let mut client = tests::RawClient::connect(gateway.listener("web-tls"));
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    // An alert at most, and nothing that looks like HTTP.
    let rest = client.wire.rest().unwrap_or_default();
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    assert_eq!(endpoint.requests(), 0);
}
