//! What a TLS listener offers, and to whom.

use std::process::Command;

use tests::{Config, DEADLINE, Endpoint, Gateway, finish};

use crate::pki::{Authority, NOW, PAST};
use crate::{curl, s_client};

const TLS: &str = "web-tls";

/// A gateway with certificates for a.test and b.test.
fn gateway() -> (Gateway, Endpoint, Authority) {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let mut config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#]);
    for host in ["a.test", "b.test"] {
        config = config.file(&format!("tls/{host}.pem"), &ca.issue(host));
    }
    (Gateway::start(&config), endpoint, ca)
}

#[test]
fn the_certificate_is_picked_by_server_name() {
    let (gateway, endpoint, ca) = gateway();
    for host in ["a.test", "b.test"] {
        let answer = curl(gateway.listener(TLS), &ca.certificate(), host, &[]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
        assert_eq!(endpoint.last().fields.get("x-forwarded-proto"), Some("https"));
    }
    // A client that asks for another name must not be content.
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "c.test", &[]);
    assert_eq!(answer.code, Some(60), "{}", answer.text());
}

#[test]
fn a_client_that_offers_more_protocols_is_answered_as_well() {
    let (gateway, _endpoint, ca) = gateway();
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "a.test", &["--http2"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
}

#[test]
fn both_versions_of_tls_that_are_in_use_are_spoken() {
    let (gateway, _endpoint, ca) = gateway();
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let answer = curl(gateway.listener(TLS), &ca.certificate(), "a.test", version);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{version:?}: {}", answer.text());
    }
}

#[test]
fn large_bodies_pass_through_tls() {
    let (gateway, endpoint, ca) = gateway();
    let folder = tempfile::TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 3 << 20]).expect("the folder is ours");
    let data = format!("@{}", body.display());
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "a.test", &["--data-binary", &data]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
    assert_eq!(endpoint.last().body.len(), 3 << 20);
}

#[test]
fn plain_text_on_a_tls_listener_ends_the_connection() {
    let (gateway, endpoint, _ca) = gateway();
    let mut client = tests::RawClient::connect(gateway.listener(TLS));
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    // An alert at most, and nothing that looks like HTTP.
    let rest = client.wire.rest().unwrap_or_default();
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_client_gets_the_kind_of_key_that_it_knows() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#])
        .file("tls/ec.pem", &ca.issue_for("ec", "a.test", NOW, "ec"))
        .file("tls/old.pem", &ca.issue_for("old", "a.test", PAST, "ec"))
        .file("tls/rsa.pem", &ca.issue_for("rsa", "a.test", NOW, "rsa"));
    let gateway = Gateway::start(&config);
    let address = gateway.listener(TLS);
    let trusted = ca.certificate();
    let trusted = trusted.to_str().expect("a temporary folder has a plain name");
    for (schemes, wanted) in
        [("ECDSA+SHA256:RSA-PSS+SHA256", "ECDSA"), ("RSA-PSS+SHA256", "RSA-PSS"), ("ECDSA+SHA256", "ECDSA")]
    {
        let arguments = ["-servername", "a.test", "-sigalgs", schemes, "-CAfile", trusted];
        let text = s_client(address, &arguments).text();
        let told = text.lines().any(|line| line == format!("Peer signature type: {wanted}"));
        assert!(told && text.contains("Verify return code: 0 (ok)"), "{schemes}: {text}");
    }
}

/// Sessions are sealed by keys that all workers share: whichever accepts, one client's second visit
/// costs no second proof.
#[test]
fn sessions_are_resumed_whichever_worker_accepts() {
    let (gateway, _endpoint, ca) = gateway();
    let (address, trusted) = (gateway.listener(TLS), ca.certificate());
    let trusted = trusted.to_str().expect("a temporary folder has a plain name");
    let session = gateway.folder().join("session");
    let session = session.to_str().expect("a temporary folder has a plain name");
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |more: &[&str], path: &str| {
            let first = [version, "-servername", "a.test", "-CAfile", trusted];
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &address.to_string(), "-ign_eof"]).args(first).args(more);
            // A whole exchange: tickets of TLS 1.3 come after the handshake.
            let input = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            finish(&mut command, &input, DEADLINE).text()
        };
        let first = ask(&["-sess_out", session], "/1");
        assert!(first.contains("New, TLS"), "{version}: {first}");
        // Two workers: one of them would not know the session.
        for visit in 0..8 {
            let again = ask(&["-sess_in", session], "/2");
            assert!(again.contains("Reused, TLS") && again.contains("c1"), "{version} {visit}: {again}");
        }
    }
}

#[test]
fn a_scan_finds_nothing_below_a_modern_profile() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#])
        .file("tls/ec.pem", &ca.issue_for("ec", "a.test", NOW, "ec"))
        .file("tls/rsa.pem", &ca.issue_for("rsa", "a.test", NOW, "rsa"));
    let gateway = Gateway::start(&config);
    let mut command = Command::new("sslscan");
    command.args(["--no-colour", "--sni-name=a.test"]).arg(gateway.listener(TLS).to_string());
    let report = finish(&mut command, "", DEADLINE);
    let text = report.text();
    assert_eq!(report.code, Some(0), "{text}");
    for wanted in [
        "SSLv2     disabled",
        "SSLv3     disabled",
        "TLSv1.0   disabled",
        "TLSv1.1   disabled",
        "TLSv1.2   enabled",
        "TLSv1.3   enabled",
        "Session renegotiation not supported",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    assert!(!text.contains("Compression enabled"), "{text}");
    let suites = text.lines().filter(|line| line.starts_with("Preferred ") || line.starts_with("Accepted "));
    let suites: Vec<_> = suites.collect();
    assert!(suites.len() >= 6, "{text}");
    for line in suites {
        let is_aead = line.contains("GCM") || line.contains("POLY1305");
        let is_forward_secret = line.contains("TLSv1.3") || line.contains("ECDHE");
        assert!(is_aead && is_forward_secret, "{line}");
    }
}

#[test]
fn a_listener_for_tls_1_3_alone_speaks_nothing_else() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let tls = r#"tls = { certificates = ["tls/*.pem"], min_version = "1.3" }"#;
    let config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, tls])
        .file("tls/a.pem", &ca.issue("a.test"));
    let gateway = Gateway::start(&config);
    let ask = |version: &[&str]| curl(gateway.listener(TLS), &ca.certificate(), "a.test", version).code;
    assert_eq!(ask(&["--tlsv1.3"]), Some(0));
    assert_eq!(ask(&["--tlsv1.2", "--tls-max", "1.2"]), Some(35));
}

#[test]
fn an_ocsp_response_beside_the_certificate_is_stapled() {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#])
        .file("tls/a.pem", &ca.issue("a.test"))
        .file("tls/b.pem", &ca.issue("b.test"))
        .file("tls/b.ocsp", "no response");
    let gateway = Gateway::start(&config);
    let ask = |host: &str| s_client(gateway.listener(TLS), &["-servername", host, "-status"]).text();
    assert!(ask("a.test").contains("OCSP response: no response sent"));
    std::fs::write(gateway.folder().join("tls/a.ocsp"), ca.ocsp("a.test")).expect("the folder is ours");
    gateway.signal(rustix::process::Signal::HUP);
    let stapled = |text: &str| text.contains("Cert Status: good");
    tests::eventually(DEADLINE, "the response is stapled", || stapled(&ask("a.test")));
    // One that is no response costs nothing but itself.
    assert!(ask("b.test").contains("OCSP response: no response sent"));
    let view = gateway.admin_json("/v1/certificates");
    let of = |at: usize| view["listeners"][0]["certificates"][at].clone();
    assert_eq!((&of(0)["ocsp_stapled"], &of(0)["ocsp_rejected"]), (&true.into(), &serde_json::Value::Null));
    assert!(of(1)["ocsp_rejected"].as_str().is_some_and(|why| why.contains("no OCSP response")), "{view}");
}
