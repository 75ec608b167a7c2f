//! openssl s_client: what a handshake agrees on.

use std::path::Path;
use std::process::Command;

use tests::{Config, DEADLINE, Endpoint, Finished, finish};

use crate::front::{Front, HOST};

/// A handshake, and a request that makes the server close.
fn s_client(front: &Front, more: &[&str]) -> Finished {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &front.address("https").to_string(), "-servername", HOST]);
    command.args(["-verify_return_error", "-verify_hostname", HOST, "-ign_eof", "-CAfile"]);
    command.arg(front.certificate()).args(more);
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    finish(&mut command, &request, DEADLINE)
}

fn front() -> (Front, Endpoint) {
    let endpoint = Endpoint::start("c1");
    (Front::start(Config::in_front_of(endpoint.address())), endpoint)
}

#[test]
fn both_versions_of_tls_carry_a_request() {
    let (front, endpoint) = front();
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let answer = s_client(&front, &[option]);
        assert_eq!(answer.code, Some(0), "{}", answer.text());
        assert!(answer.stdout.contains("Verification: OK"), "{}", answer.text());
        assert!(answer.stdout.contains(&format!("New, {version}, Cipher is ")), "{}", answer.text());
        assert!(
            answer.stdout.contains("HTTP/1.1 200 Status") && answer.stdout.contains("c1"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(endpoint.requests(), 2);
}

#[test]
fn what_is_older_than_tls_1_2_is_refused() {
    let (front, endpoint) = front();
    for option in ["-tls1", "-tls1_1"] {
        // Debian's openssl does not offer them on its own any more.
        let answer = s_client(&front, &[option, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert_eq!(answer.code, Some(1), "{}", answer.text());
        assert!(answer.text().contains("SSL alert number"), "{}", answer.text());
    }
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn the_application_protocol_is_the_best_of_those_that_the_client_offers() {
    let (front, _endpoint) = front();
    for (offered, agreed) in [
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("h2", "ALPN protocol: h2"),
        ("spdy/1,http/1.1", "ALPN protocol: http/1.1"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let answer = s_client(&front, &[version, "-alpn", offered]);
            assert!(answer.stdout.contains(agreed), "{offered}: {}", answer.text());
        }
    }
    // RFC 7301 section 3.2: nothing in common is an error, and a client without ALPN speaks HTTP/1.1.
    let answer = s_client(&front, &["-alpn", "spdy/1"]);
    assert!(answer.text().contains("no application protocol"), "{}", answer.text());
    let answer = s_client(&front, &[]);
    assert!(
        answer.stdout.contains("No ALPN negotiated") && answer.stdout.contains("HTTP/1.1 200"),
        "{}",
        answer.text()
    );
}

#[test]
fn sessions_are_resumed_by_ticket() {
    let (front, endpoint) = front();
    for version in ["-tls1_2", "-tls1_3"] {
        let file = front.folder().join(format!("session{version}"));
        let file = file.to_str().expect("the folder's name is text");
        let first = s_client(&front, &[version, "-sess_out", file]);
        assert!(first.stdout.contains("New, TLSv1.") && Path::new(file).is_file(), "{}", first.text());
        // Whichever worker gets the connection: they share the keys.
        for _ in 0..8 {
            let again = s_client(&front, &[version, "-sess_in", file]);
            assert!(again.stdout.contains("Reused, TLSv1."), "{version}: {}", again.text());
            assert!(again.stdout.contains("HTTP/1.1 200"), "{version}: {}", again.text());
        }
    }
    assert_eq!(endpoint.requests(), 18);
}
