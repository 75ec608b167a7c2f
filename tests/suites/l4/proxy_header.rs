//! The PROXY protocol, read and written.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawClient, RawEndpoint, eventually};

use crate::log_entries;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An HTTP listener with this mode; the test's own address is trusted, or another one.
fn http(mode: &str, trusted: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let lines = [r#"protocol = "http""#, &format!("proxy_protocol = {mode:?}")];
    let config = Config::in_front_of(endpoint.address())
        .listener("in", &lines)
        .trusting(trusted)
        .access_log("access.log", "json");
    (Gateway::start(&config), endpoint)
}

fn failed(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metrics().count("sluice_connections_failed_total", &[("listener", "in"), ("reason", reason)])
}

#[test]
fn the_client_is_whom_the_header_names() {
    let (gateway, endpoint) = http("required", "127.0.0.0/8");
    for header in [V1, V2] {
        let mut client = RawClient::connect(gateway.listener("in"));
        client.send([header, REQUEST].concat());
        assert_eq!(client.receive().status, 200);
        assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("192.0.2.7"));
        // The connection stays, and so does its client.
        client.send(REQUEST);
        assert_eq!(client.receive().status, 200);
        assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("192.0.2.7"));
    }
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([LOCAL, REQUEST].concat());
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("127.0.0.1"));
    let entries = log_entries(&gateway, 5);
    let mut clients: Vec<_> = entries.iter().map(|entry| entry["client"].as_str()).collect();
    // Two workers write when they like.
    clients.sort_unstable();
    let named = Some("192.0.2.7");
    assert_eq!(clients, [Some("127.0.0.1"), named, named, named, named]);
}

#[test]
fn what_a_client_says_of_itself_is_believed_only_where_the_header_names_a_trusted_proxy() {
    let (gateway, endpoint) = http("required", "127.0.0.0/8");
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([V1, request].concat());
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("192.0.2.7"));
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n", &request[..]].concat());
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("203.0.113.9, 127.0.0.9"));
}

#[test]
fn a_header_may_come_a_byte_at_a_time() {
    let (gateway, endpoint) = http("required", "127.0.0.0/8");
    for header in [V1, V2] {
        let mut client = RawClient::connect(gateway.listener("in"));
        for byte in header {
            client.send([*byte]);
        }
        client.send(REQUEST);
        assert_eq!(client.receive().status, 200);
        assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some("192.0.2.7"));
    }
}

#[test]
fn a_listener_that_requires_headers_serves_nobody_without_one() {
    let (gateway, endpoint) = http("required", "127.0.0.0/8");
    for (sent, reason) in [
        (REQUEST, "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n", "proxy_header_malformed"),
        (b"PROXY TCP4 192.0.2.7\n", "proxy_header_malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31", "proxy_header_malformed"),
    ] {
        let before = failed(&gateway, reason);
        let mut client = RawClient::connect(gateway.listener("in"));
        client.send(sent);
        assert!(client.is_ended(), "{}", sent.escape_ascii());
        eventually(DEADLINE, "it is counted", || failed(&gateway, reason) == before + 1);
    }
    // Silent, ended within a header, and dropped within one.
    let mut silent = RawClient::connect(gateway.listener("in"));
    let mut cut = RawClient::connect(gateway.listener("in"));
    cut.send(&V2[..14]);
    cut.wire.finish().expect("the connection is open");
    assert!(cut.is_ended());
    assert!(silent.is_ended());
    eventually(DEADLINE, "both are counted", || failed(&gateway, "proxy_header_missing") == 3);
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_listener_that_requires_headers_takes_none_from_strangers() {
    let (gateway, endpoint) = http("required", "192.0.2.0/24");
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([V1, REQUEST].concat());
    assert!(client.is_ended());
    eventually(DEADLINE, "it is counted", || failed(&gateway, "proxy_header_untrusted") == 1);
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn an_optional_header_is_read_from_trusted_peers_and_missed_by_nobody() {
    let (gateway, endpoint) = http("optional", "127.0.0.0/8");
    for (header, wanted) in [(V1, "192.0.2.7"), (V2, "192.0.2.7"), (&[][..], "127.0.0.1")] {
        let mut client = RawClient::connect(gateway.listener("in"));
        client.send([header, REQUEST].concat());
        assert_eq!(client.receive().status, 200);
        assert_eq!(endpoint.last().fields.get("x-forwarded-for"), Some(wanted));
    }
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send(b"PROXY nonsense\r\n");
    assert!(client.is_ended());
}

#[test]
fn a_strangers_optional_header_is_the_protocols_own_data() {
    for mode in ["optional", "off"] {
        let (gateway, endpoint) = http(mode, "192.0.2.0/24");
        let mut client = RawClient::connect(gateway.listener("in"));
        client.send([V1, REQUEST].concat());
        assert_eq!(client.receive().status, 400);
        assert_eq!(endpoint.requests(), 0);
    }
}

/// A TCP listener in front of an endpoint that speaks first.
fn tcp(mode: &str, app: &[&str]) -> (Gateway, RawEndpoint) {
    let endpoint = RawEndpoint::start(|wire, _| {
        wire.send(b"hello")?;
        wire.rest().map(|_| ())
    });
    let mut app_file = App::new("db").tcp_endpoint("v1", "c1", endpoint.address());
    for line in app {
        app_file = app_file.line(line);
    }
    let lines = [r#"protocol = "tcp""#, r#"app = "db""#, &format!("proxy_protocol = {mode:?}")];
    let config = Config::new().app(&app_file).listener("in", &lines).trusting("127.0.0.0/8");
    (Gateway::start(&config), endpoint)
}

#[test]
fn a_server_that_speaks_first_is_heard_after_the_wait_for_an_optional_header() {
    let (gateway, _endpoint) = tcp("optional", &[]);
    let mut client = RawClient::connect(gateway.listener("in"));
    assert_eq!(client.wire.exactly(5).expect("it speaks"), b"hello");
}

#[test]
fn an_endpoint_is_told_first_who_its_client_is() {
    let (gateway, endpoint) = tcp("required", &[r#"proxy_protocol = "v1""#]);
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([V2, b"bytes"].concat());
    assert_eq!(client.wire.exactly(5).expect("it speaks"), b"hello");
    let told = [V1, b"bytes"].concat();
    eventually(DEADLINE, "all has arrived", || endpoint.received() == [told.clone()]);
}

#[test]
fn an_endpoint_is_told_of_a_client_that_says_nothing() {
    let (gateway, endpoint) = tcp("off", &[r#"proxy_protocol = "v2""#]);
    let _client = RawClient::connect(gateway.listener("in"));
    eventually(DEADLINE, "the header has arrived", || endpoint.received().iter().any(|all| all.len() == 28));
    let received = endpoint.received().remove(0);
    assert_eq!(received[..20], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01");
    assert_eq!(received[20..24], [127, 0, 0, 1]);
    assert_eq!(received[26..], gateway.listener("in").port().to_be_bytes());
}

#[test]
fn a_header_comes_before_tls_and_a_handshake_follows_its_last_byte() {
    let folder = tempfile::TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let endpoint = Endpoint::start("c1");
    let tls = r#"tls = { certificates = ["tls/*.pem"] }"#;
    let config = Config::in_front_of(endpoint.address())
        .listener("in", &[r#"protocol = "http""#, r#"proxy_protocol = "required""#, tls])
        .trusting("127.0.0.0/8")
        .file("tls/it.pem", &tests::certificate(folder.path(), "a.test"));
    let gateway = Gateway::start(&config);
    let port = gateway.listener("in").port();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--http1.1"])
        .args(["--resolve", &format!("a.test:{port}:127.0.0.1"), "--haproxy-protocol", "--cacert"])
        .arg(folder.path().join("a.test.crt"))
        .arg(format!("https://a.test:{port}/"));
    let answer = tests::finish(&mut curl, "", DEADLINE);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "c1"), "{}", answer.text());
}

#[test]
fn a_chosen_app_is_told_before_the_hello_that_chose_it() {
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let app = App::new("db").line(r#"proxy_protocol = "v1""#).tcp_endpoint("v1", "c1", endpoint.address());
    let lines = [r#"protocol = "tcp""#, r#"sni = { "a.test" = "db" }"#, r#"proxy_protocol = "required""#];
    let config = Config::new().app(&app).listener("in", &lines).trusting("127.0.0.0/8");
    let gateway = Gateway::start(&config);
    let hello = crate::server_names::hello("a.test");
    let mut client = RawClient::connect(gateway.listener("in"));
    client.send([V2, &hello].concat());
    let told = [V1, &hello].concat();
    eventually(DEADLINE, "all has arrived", || endpoint.received() == [told.clone()]);
}
