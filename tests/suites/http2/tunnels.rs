//! What leaves HTTP: upgrades, CONNECT, WebSocket over HTTP/2 (RFC 8441).

use std::net::SocketAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;
use rustix::process::Signal;
use tests::{
    App, Config, DEADLINE, Endpoint as Http1Endpoint, Gateway, RawClient, RawEndpoint, Wire, eventually,
};

use crate::client::{Client, get};
use crate::{before_http1, run, until};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Echoes until the other side has ended, then ends as well.
fn echo(wire: &mut Wire) -> std::io::Result<()> {
    loop {
        let bytes = wire.some()?;
        if bytes.is_empty() {
            wire.send(b"bye")?;
            return wire.finish();
        }
        wire.send(&bytes)?;
    }
}

/// Agrees to every upgrade, says `hello` at once, and echoes.
fn switching() -> RawEndpoint {
    RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(format!("{SWITCHED}hello").as_bytes())?;
        echo(wire)
    })
}

fn tunnels(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_tunnels_open", &[])
}

fn upgrade(address: SocketAddr) -> RawClient {
    let mut client = RawClient::connect(address);
    client.send(UPGRADE);
    let head = client.receive_head();
    assert_eq!((head.status, head.fields.get("upgrade")), (101, Some("websocket")), "{head:?}");
    assert!(head.fields.lists("connection", "upgrade"), "{head:?}");
    assert_eq!(head.fields.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

#[track_caller]
fn echoes(client: &mut RawClient, text: &[u8]) {
    client.send(text);
    assert_eq!(client.wire.exactly(text.len()).expect("the echo comes"), text);
}

#[test]
fn an_upgrade_becomes_a_tunnel_with_what_came_behind_the_101() {
    let endpoint = switching();
    let gateway = before_http1(endpoint.address());
    let mut client = upgrade(gateway.web());
    assert_eq!(client.wire.exactly(5).expect("it came with the head"), b"hello");
    for _ in 0..10 {
        echoes(&mut client, b"\x81\x85any bytes\r\n\r\n\0");
    }
    echoes(&mut client, &crate::pattern(200_000));
    assert_eq!(tunnels(&gateway), 1);
    client.wire.finish().expect("the socket is open");
    assert_eq!(client.wire.rest().expect("the other side may still talk"), b"bye");
    eventually(DEADLINE, "the tunnel is over", || tunnels(&gateway) == 0 && endpoint.open() == 0);
}

#[test]
fn first_bytes_that_come_with_the_request_pass_after_the_101() {
    let endpoint = switching();
    let gateway = before_http1(endpoint.address());
    let mut client = gateway.connect();
    client.send(format!("{UPGRADE}early"));
    assert_eq!(client.receive_head().status, 101);
    assert_eq!(client.wire.exactly(10).expect("both come"), b"helloearly");
}

#[test]
fn a_tunnel_outlives_its_route_and_its_endpoints_place_in_the_app() {
    let endpoint = switching();
    let gateway = before_http1(endpoint.address());
    let mut client = upgrade(gateway.web());
    client.wire.exactly(5).expect("hello comes");
    let other = Http1Endpoint::start("other");
    gateway.put_app(&App::everything(other.address()));
    eventually(DEADLINE, "the other one is asked", || {
        other.requests() > 0 || gateway.get("a", "/").text() == "other"
    });
    echoes(&mut client, b"still there");
    assert_eq!(tunnels(&gateway), 1);
    gateway.remove_app("all");
    eventually(DEADLINE, "the app is gone", || gateway.get("a", "/").status == 404);
    echoes(&mut client, b"and now");
}

#[test]
fn a_tunnel_ends_with_the_drain_timeout() {
    let endpoint = switching();
    let config = Config::in_front_of(endpoint.address())
        .gateway(r#"drain_timeout = "1s""#)
        .access_log("access.log", "json");
    let mut gateway = Gateway::start(&config);
    let mut client = upgrade(gateway.web());
    client.wire.exactly(5).expect("hello comes");
    gateway.signal(Signal::TERM);
    echoes(&mut client, b"under way");
    client.wire.rest().ok();
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    let log = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    let entry: serde_json::Value = serde_json::from_str(log.trim()).expect("one line was written");
    assert_eq!((&entry["reason"], &entry["status"]), (&"shutdown".into(), &101.into()), "{entry}");
}

#[test]
fn an_app_says_what_it_may_be_left_for() {
    let endpoint = switching();
    for (upgrades, status) in [("[]", 403), (r#"["other"]"#, 403), (r#"["websocket"]"#, 101)] {
        let app = App::everything(endpoint.address()).line(&format!("upgrades = {upgrades}"));
        let gateway = Gateway::start(&Config::new().app(&app));
        let mut client = gateway.connect();
        client.send(UPGRADE);
        let head = client.receive_head();
        assert_eq!(head.status, status, "{upgrades}: {head:?}");
        let reason = (status == 403).then_some("upgrade_not_allowed");
        assert_eq!(head.fields.get("x-sluice-reason"), reason, "{upgrades}");
    }
    assert_eq!(endpoint.accepted(), 1);
}

#[test]
fn an_endpoint_that_stays_with_http_is_passed_on() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let response = client.receive();
    assert_eq!((response.status, response.text().as_str()), (200, "c1"));
    assert_eq!(tunnels(&gateway), 0);
    // HTTP goes on where it may.
    if !response.fields.lists("connection", "close") {
        assert_eq!(client.get("a", "/").status, 200);
    }
}

#[test]
fn a_101_that_nobody_asked_for_is_a_bad_response() {
    let endpoint = RawEndpoint::answering(SWITCHED);
    let gateway = before_http1(endpoint.address());
    let response = gateway.get("a", "/");
    assert_eq!((response.status, response.reason()), (502, Some("upstream_bad_response")));
    run(async {
        let client = Client::connect(gateway.web()).await;
        let answer = client.get("a", "/").await;
        assert_eq!((answer.status(), answer.reason()), (502, Some("upstream_bad_response")));
    });
}

/// Where a request with a body ends, a tunnel cannot begin unseen: the field is not passed on.
#[test]
fn an_upgrade_with_a_body_is_no_upgrade() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut client = gateway.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nab",
    );
    assert_eq!(client.receive().status, 200);
    let seen = endpoint.last();
    assert_eq!((seen.fields.get("upgrade"), seen.body.as_slice()), (None, &b"ab"[..]), "{seen:?}");
}

fn connect(authority: &str) -> Request<()> {
    Request::builder().method("CONNECT").uri(authority).body(()).expect("it can be built")
}

#[test]
fn connect_is_refused_where_no_app_allows_it() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut client = gateway.connect();
    client.send("CONNECT db.test:3306 HTTP/1.1\r\nHost: db.test:3306\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.status, response.reason()), (501, Some("method_not_supported")));
    assert!(client.is_ended());
    run(async {
        let client = Client::connect(gateway.web()).await;
        let (answer, _body) = client.begin(connect("db.test:3306"), false).await.expect("the stream opens");
        assert_eq!(answer.await.expect("an answer comes").status(), 501);
        assert_eq!(client.get("a", "/").await.status(), 200);
    });
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn connect_reaches_an_app_that_allows_it() {
    let endpoint = RawEndpoint::start(|wire, _| echo(wire));
    let gateway =
        Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line("connect = true")));
    let mut client = gateway.connect();
    client.send("CONNECT db.test:3306 HTTP/1.1\r\nHost: db.test:3306\r\n\r\n");
    let head = client.receive_head();
    assert_eq!(head.status, 200);
    assert!(head.fields.all("content-length").is_empty() && head.fields.all("transfer-encoding").is_empty());
    echoes(&mut client, b"first");
    client.wire.finish().expect("the socket is open");
    assert_eq!(client.wire.rest().expect("the other side may still talk"), b"bye");
    run(async {
        let client = Client::connect(gateway.web()).await;
        let (answer, mut up) = client.begin(connect("db.test:3306"), false).await.expect("the stream opens");
        let answer = answer.await.expect("an answer comes");
        assert_eq!(answer.status(), 200);
        let mut down = answer.into_body();
        up.send_data(Bytes::from_static(b"first"), false).expect("it is open");
        assert_eq!(down.data().await.expect("the echo").expect("it is open"), "first");
        up.send_data(Bytes::new(), true).expect("it is open");
        let (rest, _) = crate::client::read(&mut down).await.expect("the end comes");
        assert_eq!(rest, b"bye");
    });
    eventually(DEADLINE, "both are over", || tunnels(&gateway) == 0);
}

fn extended_connect(host: &str) -> Request<()> {
    let mut head = get(host, "/chat");
    *head.method_mut() = http::Method::CONNECT;
    head.extensions_mut().insert(Protocol::from_static("websocket"));
    head.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
    head
}

#[test]
fn a_websocket_over_http2_reaches_an_http1_endpoint() {
    run(async {
        let endpoint = RawEndpoint::start(|wire, _| {
            let head = tests::read_head(wire)?.unwrap_or_default();
            let key = head.iter().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            assert!(key.is_some_and(|key| key.len() == 24), "{head:?}");
            assert!(head[0].starts_with("GET /chat HTTP/1.1"), "{head:?}");
            wire.send(format!("{SWITCHED}hello").as_bytes())?;
            echo(wire)
        });
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        client.await_settings().await;
        let (answer, mut up) = client.begin(extended_connect("a"), false).await.expect("the stream opens");
        let answer = answer.await.expect("an answer comes");
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        assert!(!answer.headers().contains_key("upgrade") && !answer.headers().contains_key("connection"));
        let mut down = answer.into_body();
        assert_eq!(down.data().await.expect("it came at once").expect("it is open"), "hello");
        up.send_data(Bytes::from_static(b"\x81\x00"), false).expect("it is open");
        assert_eq!(down.data().await.expect("the echo").expect("it is open"), &b"\x81\x00"[..]);
        up.send_data(Bytes::new(), true).expect("it is open");
        let (rest, _) = crate::client::read(&mut down).await.expect("the end comes");
        assert_eq!(rest, b"bye");
    });
}

#[test]
fn a_websocket_over_http2_that_is_not_taken_is_an_answer() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let app = App::everything(endpoint.address()).line("upgrades = []");
        let gateway = Gateway::start(&Config::new().app(&app));
        let client = Client::connect(gateway.web()).await;
        client.await_settings().await;
        let (answer, _up) = client.begin(extended_connect("a"), false).await.expect("the stream opens");
        assert_eq!(answer.await.expect("an answer comes").status(), 403);
        assert_eq!(client.get("a", "/").await.status(), 200);
    });
}

#[test]
fn a_websocket_over_http2_that_an_operator_closes_takes_no_other_stream_with_it() {
    run(async {
        let endpoint = switching();
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        client.await_settings().await;
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (answer, up) = client.begin(extended_connect("a"), false).await.expect("the stream opens");
            let mut down = answer.await.expect("an answer comes").into_body();
            assert_eq!(down.data().await.expect("it came at once").expect("it is open"), "hello");
            let listed = gateway.admin_json("/v1/tunnels?app=all");
            let newest = listed["items"].as_array().expect("a list").iter().max_by_key(|item| {
                let id = item["id"].as_str().expect("text");
                id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok())
            });
            let id = newest.expect("it is open")["id"].as_str().expect("text").to_owned();
            streams.push((id, up, down));
        }
        let (_, mut up, mut down) = streams.pop().expect("two were opened");
        let (id, _up, mut closing) = streams.pop().expect("two were opened");
        let mut admin = RawClient::connect(gateway.admin());
        admin.send(format!("DELETE /v1/tunnels?id={id} HTTP/1.1\r\nHost: admin\r\n\r\n"));
        assert_eq!(admin.receive_for("DELETE").text(), "{\"closed\":1}");
        assert!(closing.data().await.is_some_and(|data| data.is_err()), "the stream is reset");
        up.send_data(Bytes::from_static(b"still there"), false).expect("it is open");
        assert_eq!(down.data().await.expect("the echo").expect("it is open"), "still there");
    });
}

#[test]
fn a_tunnel_whose_client_vanishes_is_closed_at_the_endpoint() {
    run(async {
        let endpoint = switching();
        let gateway = before_http1(endpoint.address());
        let http1 = upgrade(gateway.web());
        let client = Client::connect(gateway.web()).await;
        client.await_settings().await;
        let (answer, _up) = client.begin(extended_connect("a"), false).await.expect("the stream opens");
        assert_eq!(answer.await.expect("an answer comes").status(), 200);
        assert_eq!(tunnels(&gateway), 2);
        http1.wire.reset_at_end().expect("the socket is open");
        drop(http1);
        client.vanish();
        until("both are over", || tunnels(&gateway) == 0 && endpoint.open() == 0).await;
    });
}
