//! TLS that passes through to an app chosen by the name that the client asks for.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::{
    App, Config, DEADLINE, Endpoint, Gateway, RawClient, RawEndpoint, certificate, curl, eventually, finish,
};

use crate::log_entries;

/// Something that ends TLS with a certificate for `host` and answers HTTP with its name.
struct Backend {
    gateway: Gateway,
    _endpoint: Endpoint,
}

fn backend(folder: &Path, host: &str) -> Backend {
    let endpoint = Endpoint::start(host);
    let config = Config::in_front_of(endpoint.address())
        .listener("tls", &[r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#])
        .file("tls/it.pem", &certificate(folder, host));
    Backend { gateway: Gateway::start(&config), _endpoint: endpoint }
}

/// A listener that looks at names: a.test exactly, anything below b.test, and perhaps a default.
fn gateway(apps: &[(&str, std::net::SocketAddr)], more: &[&str]) -> Gateway {
    let sni = r#"sni = { "a.test" = "a", "*.b.test" = "b" }"#;
    let lines: Vec<_> = [r#"protocol = "tcp""#, sni].iter().chain(more).copied().collect();
    let mut config = Config::new().listener("tls", &lines).access_log("access.log", "json");
    for (id, address) in apps {
        config = config.app(&App::new(id).tcp_endpoint("v1", "c1", *address));
    }
    Gateway::start(&config)
}

#[test]
fn the_name_chooses_the_app_and_its_certificate_is_seen() {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let (a, b) = (backend(folder.path(), "a.test"), backend(folder.path(), "x.b.test"));
    let gateway = gateway(&[("a", a.gateway.listener("tls")), ("b", b.gateway.listener("tls"))], &[]);
    for host in ["a.test", "x.b.test"] {
        let answer = curl(gateway.listener("tls"), folder.path(), host, host, &["--http1.1"]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), host), "{}", answer.text());
    }
    let entries = log_entries(&gateway, 2);
    let seen = entries.iter().map(|entry| (entry["host"].as_str(), entry["app"].as_str()));
    // Two workers write when they like.
    let seen: std::collections::BTreeSet<_> = seen.collect();
    assert!(seen.contains(&(Some("a.test"), Some("a"))) && seen.contains(&(Some("x.b.test"), Some("b"))));
}

#[test]
fn a_name_that_nobody_has_is_refused_in_the_words_of_tls() {
    let gateway = gateway(&[], &[]);
    let address = gateway.listener("tls").to_string();
    for name in [&["-servername", "c.test"][..], &["-servername", "b.test"], &["-noservername"]] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address]).args(name);
        let answer = finish(&mut command, "", DEADLINE);
        assert!(answer.text().contains("unrecognized name"), "{name:?}: {}", answer.text());
    }
    let labels = [("listener", "tls"), ("reason", "unknown_host")];
    let failed = || gateway.metrics().count("sluice_connections_failed_total", &labels);
    eventually(DEADLINE, "they are counted", || failed() == 3);
    assert_eq!(log_entries(&gateway, 3)[0]["reason"], "unknown_host");
}

#[test]
fn what_no_name_decides_goes_to_the_default_app_untouched() {
    let endpoint = RawEndpoint::start(|wire, _| {
        let sent = wire.exactly(7)?;
        wire.send(&sent)
    });
    let gateway = gateway(&[("rest", endpoint.address())], &[r#"app = "rest""#]);
    let mut client = RawClient::connect(gateway.listener("tls"));
    client.send("not TLS");
    assert_eq!(client.wire.rest().expect("the connection ends well"), b"not TLS");
}

/// The least that is a hello: one cipher suite, no compression, one extension with a name.
pub fn hello(name: &str) -> Vec<u8> {
    let vector = |content: &[u8]| [&(content.len() as u16).to_be_bytes()[..], content].concat();
    let list = vector(&[&[0][..], &vector(name.as_bytes())].concat());
    let extensions = [&[0, 0][..], &vector(&list)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &vector(&extensions)].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

#[test]
fn a_hello_may_come_a_byte_at_a_time() {
    let hello = hello("a.test");
    let (all, length) = (hello.clone(), hello.len());
    let endpoint = RawEndpoint::start(move |wire, _| {
        assert_eq!(wire.exactly(length)?, all);
        wire.send(b"seen")
    });
    let gateway = gateway(&[("a", endpoint.address())], &[]);
    let mut client = RawClient::connect(gateway.listener("tls"));
    let (last, first) = hello.split_last().expect("it has bytes");
    first.iter().for_each(|byte| client.send([*byte]));
    assert_eq!(endpoint.accepted(), 0, "nobody is asked before the name is known");
    client.send([*last]);
    assert_eq!(client.wire.rest().expect("the connection ends well"), b"seen");
}

#[test]
fn what_is_no_hello_is_closed() {
    let gateway = gateway(&[], &[]);
    let mut client = RawClient::connect(gateway.listener("tls"));
    client.send([22, 3, 1, 0, 1, 2]);
    assert_eq!(client.wire.rest().unwrap_or_default(), [21, 3, 3, 0, 2, 2, 50]);
    let mut client = RawClient::connect(gateway.listener("tls"));
    client.send("SSH-2.0-x\r\n");
    client.wire.rest().unwrap_or_default();
    let count = |reason| {
        let labels = [("listener", "tls"), ("reason", reason)];
        gateway.metrics().count("sluice_connections_failed_total", &labels)
    };
    eventually(DEADLINE, "both are counted", || count("bad_request") == 1 && count("unknown_host") == 1);
}
