//! From http to https.

use tests::{App, Config, Endpoint, Gateway};

use crate::curl;
use crate::pki::Authority;

const TLS: &str = "web-tls";
const PLAIN: &str = "plain";

/// `plain` redirects everything, `web` only what its app wants so.
fn gateway(trusting: &str) -> (Gateway, Endpoint, Authority) {
    let (endpoint, ca) = (Endpoint::start("c1"), Authority::new());
    let app = |id: &str, host: &str| App::new(id).host(host).endpoint("v1", "c1", endpoint.address());
    let config = Config::new()
        .trusting(trusting)
        .app(&app("secure", "secure.test").line("https_only = true"))
        .app(&app("open", "open.test"))
        .listener(PLAIN, &[r#"protocol = "http""#, "https_redirect = true", "https_port = 8443"])
        .listener(
            TLS,
            &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#, r#"hsts = "365d""#],
        )
        .file("tls/secure.pem", &ca.issue("secure.test"));
    (Gateway::start(&config), endpoint, ca)
}

#[test]
fn clear_text_is_sent_to_the_same_place_by_https() {
    let (gateway, endpoint, _ca) = gateway("192.0.2.1");
    let ask = |listener: &str, head: &str| {
        let mut client = tests::RawClient::connect(gateway.listener(listener));
        client.send(head);
        client.receive()
    };
    for (listener, line, host, wanted) in [
        (PLAIN, "GET /a?b=%2F HTTP/1.1", "Open.test.:80", "https://open.test:8443/a?b=%2F"),
        (PLAIN, "GET http://open.test?b HTTP/1.1", "open.test", "https://open.test:8443/?b"),
        (PLAIN, "OPTIONS * HTTP/1.1", "open.test", "https://open.test:8443/"),
        (PLAIN, "GET //elsewhere.test/x HTTP/1.1", "open.test", "https://open.test:8443//elsewhere.test/x"),
        (Config::WEB, "GET /a HTTP/1.1", "secure.test", "https://secure.test/a"),
        (Config::WEB, "DELETE /a HTTP/1.1", "secure.test", "https://secure.test/a"),
    ] {
        let answer = ask(listener, &format!("{line}\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.fields.get("location")), (308, Some(wanted)), "{line}");
        assert_eq!(answer.fields.get("x-sluice-reason"), Some("https_required"), "{line}");
    }
    assert_eq!(endpoint.requests(), 0);
    // Nobody is sent to a host that nobody claims.
    for host in ["evil.test", ""] {
        let answer = ask(PLAIN, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.fields.get("location")), (404, None), "{host:?}");
    }
}

#[test]
fn what_must_be_reached_in_clear_text_is() {
    let (gateway, endpoint, _ca) = gateway("192.0.2.1");
    let ask = |listener: &str, host: &str, path: &str| {
        tests::RawClient::connect(gateway.listener(listener)).get(host, path).status
    };
    let challenge = "/.well-known/acme-challenge/token";
    assert_eq!(ask(PLAIN, "open.test", challenge), 200);
    assert_eq!(ask(Config::WEB, "secure.test", challenge), 200);
    assert_eq!(ask(Config::WEB, "open.test", "/"), 200);
    assert_eq!(endpoint.requests(), 3);
    // Its normal form counts, as for every route.
    assert_eq!(ask(Config::WEB, "secure.test", "/.well-known/acme-challenge/../../private"), 308);
    assert_eq!(ask(Config::WEB, "secure.test", "/.well-known/acme-challenges"), 308);
}

#[test]
fn a_proxy_that_took_the_tls_off_is_believed_when_it_is_trusted() {
    let ask = |gateway: &Gateway| {
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: secure.test\r\nX-Forwarded-Proto: https\r\n\r\n");
        client.receive().status
    };
    assert_eq!(ask(&gateway("127.0.0.1").0), 200);
    assert_eq!(ask(&gateway("192.0.2.1").0), 308);
}

#[test]
fn tls_listeners_tell_clients_to_stay_with_https() {
    let (gateway, _endpoint, ca) = gateway("192.0.2.1");
    // An answer of our own: 404.
    let more = ["--include", "--header", "Host: secure.test:1", "--request-target", "nowhere"];
    let answer = curl(gateway.listener(TLS), &ca.certificate(), "secure.test", &more).text();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("Strict-Transport-Security: max-age=31536000\r\n").count(), 1, "{answer}");
    assert_eq!(gateway.get("nobody.test", "/").fields.get("strict-transport-security"), None);
}
