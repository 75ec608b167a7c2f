//! Client certificates, and hosts that a connection was not made for.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::curl;
use crate::pki::Authority;

const TLS: &str = "web-tls";

/// One app for members only, one for everybody, behind a listener with this `tls` beside its
/// certificates.
fn gateway(ca: &Authority, tls: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let app = |id: &str| App::new(id).host(&format!("{id}.test")).endpoint("v1", "c1", endpoint.address());
    let tls = format!(r#"tls = {{ certificates = ["tls/*.pem"]{tls} }}"#);
    let config = Config::new()
        .app(&app("members").line(r#"client_certificate = "required""#))
        .app(&app("all"))
        .listener(TLS, &[r#"protocol = "http""#, &tls])
        .file("tls/members.pem", &ca.issue("members.test"))
        .file("tls/all.pem", &ca.issue("all.test"))
        .file("clients.crt", &ca.pem());
    (Gateway::start(&config), endpoint)
}

#[test]
fn an_app_for_members_refuses_everybody_else() {
    let (ca, foreign) = (Authority::new(), Authority::new());
    let (gateway, endpoint) = gateway(&ca, r#", client_ca = "clients.crt", client_auth = "optional""#);
    ca.issue("client.test");
    foreign.issue("client.test");
    let ask = |host: &str, member: Option<&Authority>| {
        let files = member.map(|issuer| issuer.files("client.test"));
        let paths = files.iter().flat_map(|(cert, key)| [("--cert", cert), ("--key", key)]);
        let more: Vec<&str> =
            paths.flat_map(|(option, path)| [option, path.to_str().expect("a plain name")]).collect();
        curl(gateway.listener(TLS), &ca.certificate(), host, &[&["--include"], &more[..]].concat())
    };
    for (host, member, wanted) in [
        ("members.test", Some(&ca), "200"),
        ("all.test", Some(&ca), "200"),
        ("members.test", None, "403"),
        ("all.test", None, "200"),
    ] {
        let answer = ask(host, member).text();
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{host}: {answer}");
        assert_eq!(answer.contains("X-Sluice-Reason: client_certificate_required"), wanted == "403");
    }
    // One that does not verify ends the handshake, whatever it asks for.
    assert_ne!(ask("all.test", Some(&foreign)).code, Some(0));
    assert_eq!(endpoint.requests(), 3);
    // In clear text nobody has a certificate.
    let answer = gateway.get("members.test", "/");
    assert_eq!(
        (answer.status, answer.fields.get("x-sluice-reason")),
        (403, Some("client_certificate_required"))
    );
    eventually(DEADLINE, "both were counted", || {
        let labels = [("app", "members"), ("reason", "client_certificate_required"), ("status", "4xx")];
        gateway.metrics().count("sluice_requests_total", &labels) == 2
    });
}

#[test]
fn a_listener_for_members_ends_the_handshake_of_others() {
    let ca = Authority::new();
    let (gateway, endpoint) = gateway(&ca, r#", client_ca = "clients.crt""#);
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "all.test", &[]);
    assert_ne!(answer.code, Some(0), "{}", answer.text());
    assert_eq!(endpoint.requests(), 0);
    eventually(DEADLINE, "the failure was counted", || {
        gateway.metrics().count("sluice_tls_handshake_failures_total", &[("listener", TLS)]) == 1
    });
}

#[test]
fn a_host_that_the_connection_was_not_made_for_is_misdirected() {
    let ca = Authority::new();
    let (gateway, endpoint) = gateway(&ca, "");
    let ask = |host: &str| {
        let more = ["--include", "--header", &format!("Host: {host}")];
        curl(gateway.listener(TLS), &ca.certificate(), "all.test", &more).text()
    };
    let answer = ask("members.test");
    assert!(answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{answer}");
    assert!(answer.contains("X-Sluice-Reason: misdirected_request\r\n"), "{answer}");
    // Port, case and a trailing dot make no other host of it.
    for host in ["all.test", "ALL.test.:443"] {
        let answer = ask(host);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    assert_eq!(endpoint.requests(), 2);
}
