//! What of a head the other side sees.

use tests::{Config, Endpoint, Gateway, RawClient, Request};

use crate::{answering, plain};

/// What the endpoint saw of one request with these fields besides Host.
fn forwarded(gateway: &Gateway, endpoint: &Endpoint, fields: &str) -> Request {
    let mut client = gateway.connect();
    client.send(format!("GET /path?query HTTP/1.1\r\nHost: shop.test:81\r\n{fields}\r\n"));
    assert_eq!(client.receive().status, 200);
    endpoint.last()
}

fn trusting(network: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    (Gateway::start(&Config::in_front_of(endpoint.address()).trusting(network)), endpoint)
}

const CLAIMS: &str = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: elsewhere.test\r\nForwarded: for=203.0.113.7;proto=https\r\nX-Request-Id: claimed-id\r\n";

#[test]
fn end_to_end_fields_pass_unchanged_and_in_order() {
    let (gateway, endpoint) = plain();
    let request =
        forwarded(&gateway, &endpoint, "X-b: 1\r\nx-A:  two words \r\nX-b: \r\nCookie: a=b; c=\"d\"\r\n");
    let kept: Vec<_> = request
        .fields
        .0
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "X-b" | "x-A" | "Cookie"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(kept, [("X-b", "1"), ("x-A", "two words"), ("X-b", ""), ("Cookie", "a=b; c=\"d\"")]);
    assert_eq!(request.target, "/path?query");
    assert_eq!(request.fields.get("host"), Some("shop.test:81"));
}

#[test]
fn bytes_above_ascii_in_values_pass_unchanged() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: J\xfcrgen \xc3\xbc\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().fields.get("x-name"), Some("J\u{fc}rgen \u{c3}\u{bc}"));
}

#[test]
fn hop_by_hop_fields_of_a_request_end_at_the_gateway() {
    let (gateway, endpoint) = plain();
    let request = forwarded(
        &gateway,
        &endpoint,
        "Connection: keep-alive, X-Mine\r\nConnection: x-other\r\nX-Mine: 1\r\nX-Other: 2\r\nX-Kept: 3\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nUpgrade: h2c\r\n",
    );
    for gone in ["x-mine", "x-other", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(request.fields.get(gone), None, "{request:?}");
    }
    assert!(!request.fields.lists("connection", "x-mine"), "{request:?}");
    assert!(!request.fields.lists("te", "deflate"), "{request:?}");
    assert_eq!(request.fields.get("x-kept"), Some("3"));
}

#[test]
fn hop_by_hop_fields_of_a_response_end_at_the_gateway() {
    let (gateway, _endpoint) = answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Kept: 3\r\nContent-Length: 0\r\n\r\n",
    );
    let response = gateway.get("a", "/");
    for gone in ["x-mine", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(response.fields.get(gone), None, "{response:?}");
    }
    assert_eq!(response.fields.get("x-kept"), Some("3"));
}

#[test]
fn connection_cannot_name_what_the_gateway_answers_for() {
    let (gateway, endpoint) = plain();
    let request = forwarded(
        &gateway,
        &endpoint,
        "Connection: Host, X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Content-Length\r\n",
    );
    for kept in ["host", "x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        assert!(request.fields.get(kept).is_some(), "{kept} is gone: {request:?}");
    }
}

#[test]
fn the_endpoint_learns_who_asked() {
    let (gateway, endpoint) = plain();
    let request = forwarded(&gateway, &endpoint, "");
    assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields.get("x-forwarded-host"), Some("shop.test:81"));
    assert!(request.fields.get("x-request-id").is_some_and(|id| id.len() >= 16), "{request:?}");
}

#[test]
fn claims_of_an_untrusted_client_are_replaced() {
    let (gateway, endpoint) = trusting("10.0.0.0/8");
    let request = forwarded(&gateway, &endpoint, CLAIMS);
    assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields.get("x-forwarded-host"), Some("shop.test:81"));
    assert_ne!(request.fields.get("x-request-id"), Some("claimed-id"));
    let text = format!("{request:?}");
    assert!(!text.contains("203.0.113.7") && !text.contains("elsewhere"), "{text}");
}

#[test]
fn repeated_claims_of_an_untrusted_client_are_all_replaced() {
    let (gateway, endpoint) = trusting("10.0.0.0/8");
    let twice = format!("{CLAIMS}x-forwarded-for: 203.0.113.7\r\nx-FORWARDED-proto: https\r\n");
    let request = forwarded(&gateway, &endpoint, &twice);
    assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("http"));
}

#[test]
fn claims_of_a_trusted_proxy_are_kept_and_continued() {
    let (gateway, endpoint) = trusting("127.0.0.0/8");
    let request = forwarded(&gateway, &endpoint, CLAIMS);
    assert_eq!(request.fields.all("x-forwarded-for").join(", "), "203.0.113.7, 127.0.0.1");
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("https"));
    assert_eq!(request.fields.get("x-forwarded-host"), Some("elsewhere.test"));
    assert_eq!(request.fields.get("x-request-id"), Some("claimed-id"));
    let continued = request.fields.all("forwarded").join(", ");
    assert!(
        continued.starts_with("for=203.0.113.7;proto=https") && continued.contains("127.0.0.1"),
        "{continued}"
    );
}

#[test]
fn request_ids_are_unique() {
    let (gateway, endpoint) = plain();
    let mut ids: Vec<_> = (0..50)
        .map(|_| forwarded(&gateway, &endpoint, "").fields.get("x-request-id").map(str::to_owned))
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn via_names_the_gateway_to_the_endpoint() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    for (version, via) in [("1.1", "1.1 "), ("1.0", "1.0 ")] {
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\nVia: 1.0 before\r\n\r\n"));
        assert_eq!(client.receive().status, 200);
        // RFC 9110 section 7.6.3: required of a gateway in requests, with the version that it received.
        let seen = endpoint.last().fields.all("via").join(", ");
        assert!(seen.starts_with(&format!("1.0 before, {via}")), "{seen}");
    }
}

#[test]
fn the_via_of_an_endpoint_passes() {
    let (gateway, _endpoint) = answering("HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n");
    let seen = gateway.get("a", "/").fields.all("via").join(", ");
    assert!(seen.starts_with("1.1 inner"), "{seen}");
}

#[test]
fn an_absolute_target_decides_the_host_and_is_forwarded_in_origin_form() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET http://right.test:82/a?b HTTP/1.1\r\nHost: wrong.test\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    // RFC 9112 section 3.2.2.
    let request = endpoint.last();
    assert_eq!((request.target.as_str(), request.fields.get("host")), ("/a?b", Some("right.test:82")));
    client.send("GET http://right.test HTTP/1.1\r\nHost: wrong.test\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().target, "/");
    client.send("GET http://right.test?q HTTP/1.1\r\nHost: wrong.test\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().target, "/?q");
}

#[test]
fn options_for_the_whole_server_keeps_its_asterisk() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    for target in ["*", "http://any.test"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: any.test\r\n\r\n"));
        assert_eq!(client.receive().status, 200);
        // RFC 9112 section 3.2.4 for the absolute form without a path.
        assert_eq!(endpoint.last().target, "*");
    }
}

#[test]
fn a_request_of_http_1_0_is_forwarded_as_1_1() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    // The endpoint's reader accepts HTTP/1.1 only, where Host is required.
    assert!(endpoint.last().fields.get("host").is_some());
}

#[test]
fn odd_but_valid_targets_pass_unchanged() {
    let (gateway, endpoint) = plain();
    let mut client: RawClient = gateway.connect();
    for target in [
        "/a/%2e%2e/b",
        "/a//b",
        "/a/../b",
        "/?a=/../b#".trim_end_matches('#'),
        "/%ff%00",
        "/a;b=c,d",
        "//two",
    ] {
        let response = client.get("any.test", target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(endpoint.last().target, target);
    }
}
