//! Certificates that change while a gateway serves.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tests::{Config, DEADLINE, Endpoint, Gateway, eventually, finish};

use crate::pki::{Authority, NOW, PAST};
use crate::{curl, s_client};

const TLS: &str = "web-tls";

fn config(endpoint: &Endpoint) -> Config {
    Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#])
}

/// The serial number of the certificate that is served for `host`.
fn serial(gateway: &Gateway, host: &str) -> String {
    let shown = s_client(gateway.listener(TLS), &["-servername", host]).stdout;
    let begin = shown.find("-----BEGIN").unwrap_or_else(|| panic!("no certificate in {shown}"));
    let report =
        finish(Command::new("openssl").args(["x509", "-noout", "-serial"]), &shown[begin..], DEADLINE);
    report.stdout
}

fn rejects(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_certificate_rejects", &[("listener", TLS)])
}

#[test]
fn new_files_are_taken_bad_ones_are_not_and_no_connection_ends() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let (a, b) = (ca.issue_for("a1", "a.test", NOW, "ec"), ca.issue_for("b1", "b.test", NOW, "ec"));
    let gateway = Gateway::start(&config(&endpoint).file("tls/a.pem", &a).file("tls/b.pem", &b));
    let (first_a, first_b) = (serial(&gateway, "a.test"), serial(&gateway, "b.test"));
    assert_ne!(first_a, first_b);

    // A connection from before, with a request in the middle.
    let mut open = Command::new("openssl");
    let folder = gateway.folder().to_owned();
    let fifo = folder.join("requests");
    let made = finish(Command::new("mkfifo").arg(&fifo), "", DEADLINE);
    assert_eq!(made.code, Some(0), "{}", made.text());
    let output = std::fs::File::create(folder.join("answers")).expect("the folder is ours");
    // Both ends at once: nobody waits for the other.
    let requests = std::fs::File::options().read(true).write(true).open(&fifo).expect("the fifo is ours");
    open.args([
        "s_client",
        "-quiet",
        "-connect",
        &gateway.listener(TLS).to_string(),
        "-servername",
        "a.test",
    ])
    .stdin(requests.try_clone().expect("a file can be shared"))
    .stdout(output)
    .stderr(std::process::Stdio::null());
    let mut open = open.spawn().expect("openssl is installed");
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let answers = || {
        let text = std::fs::read_to_string(folder.join("answers")).expect("the folder is ours");
        text.matches("HTTP/1.1 200 ").count()
    };
    std::io::Write::write_all(&mut (&requests), request.as_bytes()).expect("the fifo is ours");
    eventually(DEADLINE, "the first answer", || answers() == 1);

    // Of two new files one is bad: the key is another's.
    let (chain, other) = (ca.issue_for("a2", "a.test", NOW, "ec"), ca.issue_for("a3", "a.test", NOW, "ec"));
    let key_at = |pem: &str| pem.find("-----BEGIN PRIVATE").expect("there is a key");
    gateway.put_file("tls/a.pem", &format!("{}{}", &chain[..key_at(&chain)], &other[key_at(&other)..]));
    gateway.put_file("tls/b.pem", &ca.issue_for("b2", "b.test", NOW, "ec"));
    gateway.signal(Signal::HUP);
    eventually(DEADLINE, "the good one is served", || serial(&gateway, "b.test") != first_b);
    assert_eq!(serial(&gateway, "a.test"), first_a);
    assert_eq!(rejects(&gateway), 1);
    let view = gateway.admin_json("/v1/certificates").to_string();
    assert!(view.contains("the key is not the first certificate's"), "{view}");

    // So is one that has expired.
    gateway.put_file("tls/a.pem", &ca.issue_for("a4", "a.test", PAST, "ec"));
    eventually(DEADLINE, "it is refused without a signal", || {
        gateway.output().contains("expired at 2002-01-01")
    });
    assert_eq!(serial(&gateway, "a.test"), first_a);

    gateway.put_file("tls/a.pem", &chain);
    gateway.signal(Signal::HUP);
    eventually(DEADLINE, "the good one is served", || serial(&gateway, "a.test") != first_a);
    assert_eq!(rejects(&gateway), 0);
    // Said once each, however often it was looked at.
    assert_eq!(gateway.output().matches("certificate rejected: the former one stays").count(), 2);

    std::io::Write::write_all(&mut (&requests), request.as_bytes()).expect("the fifo is ours");
    eventually(DEADLINE, "the connection from before still serves", || answers() == 2);
    open.kill().expect("openssl is our child");
    open.wait().expect("openssl is our child");
}

#[test]
fn a_start_makes_do_with_what_there_is_and_says_what_is_wrong() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let config = config(&endpoint)
        .file("tls/bad.pem", "nothing of use")
        .file("tls/good.pem", &ca.issue("a.test"))
        .file("tls/old.pem", &ca.issue_for("old", "old.test", PAST, "ec"));
    let gateway = Gateway::start(&config);
    assert_eq!(curl(gateway.listener(TLS), &ca.certificate(), "a.test", &[]).code, Some(0));
    // The client learns what is wrong, not that it is somewhere else.
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "old.test", &[]);
    assert!(answer.code == Some(60) && answer.text().contains("expired"), "{}", answer.text());
    assert_eq!(rejects(&gateway), 1);
    let output = gateway.output();
    assert!(output.contains("bad.pem") && output.contains("has no usable private key"), "{output}");
    assert!(output.contains("certificate out of date"), "{output}");
}

#[test]
fn the_end_of_every_certificate_is_a_metric() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let gateway = Gateway::start(&config(&endpoint).file("tls/a.pem", &ca.issue("a.test")));
    let path = gateway.folder().join("tls/a.pem").display().to_string();
    let labels = [("listener", TLS), ("certificate", path.as_str())];
    let until = gateway.metrics().sum("sluice_certificate_expiry_timestamp_seconds", &labels);
    // 2090-01-01.
    assert_eq!(until, Some(3_786_912_000.0));
    assert!(until > Some(now as f64));
    let view = gateway.admin_json("/v1/certificates");
    assert_eq!(view["listeners"][0]["certificates"][0]["not_after"], "2090-01-01T00:00:00Z");
    assert_eq!(view["listeners"][0]["certificates"][0]["names"][0], "a.test");
}
