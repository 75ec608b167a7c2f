//! Copies of requests for somebody who is only tried.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, Reply, eventually};

const HOST: &str = "shop.test";

fn gateway(live: &Endpoint, tried: &Endpoint, lines: &str) -> Gateway {
    let app = App::new("shop").host(HOST).line("split = { v1 = 1 }").line(lines);
    let app = app.endpoint("v1", "a", live.address()).endpoint("v2", "b", tried.address());
    Gateway::start(&Config::with_workers(1).app(&app))
}

fn count(gateway: &Gateway, result: &str) -> u64 {
    gateway.metrics().count("sluice_mirrored_requests_total", &[("app", "shop"), ("result", result)])
}

#[test]
fn a_copy_has_the_head_and_the_body_and_says_what_it_is() {
    let (live, tried) = (Endpoint::start("live"), Endpoint::start("tried"));
    let gateway = gateway(&live, &tried, "[filters.mirror]\nversion = \"v2\"");
    let mut client = gateway.connect();
    client.send(format!(
        "POST /order?x=1 HTTP/1.1\r\nHost: {HOST}\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
    ));
    assert_eq!(client.receive().text(), "live");
    eventually(DEADLINE, "the copy came", || tried.requests() == 1);
    let copy = tried.last();
    assert_eq!(
        (copy.method.as_str(), copy.target.as_str(), copy.body.as_slice()),
        ("POST", "/order?x=1", &b"hello"[..])
    );
    assert_eq!((copy.fields.get("x-a"), copy.fields.get("x-sluice-mirror")), (Some("b"), Some("1")));
    assert_eq!(copy.fields.get("host"), Some(HOST));
    assert_eq!(live.last().fields.get("x-sluice-mirror"), None);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    ));
    assert_eq!(client.receive().text(), "live");
    eventually(DEADLINE, "the chunked copy came", || tried.requests() == 2);
    assert_eq!(tried.last().body, b"abcde");
    assert_eq!(client.get(HOST, "/").text(), "live");
    eventually(DEADLINE, "all are counted", || count(&gateway, "answered") == 3);
    assert_eq!((live.requests(), count(&gateway, "failed")), (3, 0));
    // A copy is no request of anybody's.
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("sluice_requests_total", &[("app", "shop"), ("version", "v2")]), 0);
}

#[test]
fn nothing_that_becomes_of_a_copy_reaches_the_original() {
    let live = Endpoint::start("live");
    let tried = Endpoint::behaving("tried", |request| match request.target.as_str() {
        "/hang" => Reply::Hang,
        "/reset" => Reply::Reset,
        _ => Reply::RawThenClose(b"nonsense\r\n\r\n".to_vec()),
    });
    let gateway = gateway(&live, &tried, "[filters.mirror]\nversion = \"v2\"\nmax_in_flight = 2");
    let mut client = gateway.connect();
    for (failed, path) in (1..).zip(["/reset", "/nonsense", "/reset"]) {
        assert_eq!(client.get(HOST, path).text(), "live");
        eventually(DEADLINE, "the copy failed", || count(&gateway, "failed") == failed);
    }
    for _ in 0..5 {
        assert_eq!(client.get(HOST, "/hang").text(), "live");
    }
    eventually(DEADLINE, "no more than two hang", || count(&gateway, "skipped") == 3);
    tried.stop();
    assert_eq!(client.get(HOST, "/").text(), "live");
}

#[test]
fn a_share_of_some_requests_is_copied_and_long_bodies_are_not() {
    let (live, tried) = (Endpoint::start("live"), Endpoint::start("tried"));
    let lines = "[[match]]\nname = \"reads\"\nmethod = [\"GET\"]\n\
                 [filters.mirror]\nversion = \"v2\"\nmatch = [\"reads\"]\npercent = 50";
    let shop = gateway(&live, &tried, lines);
    let mut client = shop.connect();
    for _ in 0..60 {
        assert_eq!(client.get(HOST, "/").text(), "live");
        client.send(format!("DELETE / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(client.receive().text(), "live");
    }
    eventually(DEADLINE, "half of them came", || (27..=33).contains(&tried.requests()));
    assert_eq!(tried.last().method, "GET");
    let (live, tried) = (Endpoint::start("live"), Endpoint::start("tried"));
    let short = gateway(&live, &tried, "[filters.mirror]\nversion = \"v2\"\nmax_body_bytes = 4");
    let mut client = short.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello"));
    assert_eq!(client.receive().text(), "live");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ));
    assert_eq!(client.receive().text(), "live");
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nhell"));
    assert_eq!(client.receive().text(), "live");
    eventually(DEADLINE, "the short one came", || tried.requests() == 1);
    assert_eq!((tried.last().body.as_slice(), count(&short, "skipped")), (&b"hell"[..], 2));
}

#[test]
fn another_app_may_be_tried() {
    let (live, tried) = (Endpoint::start("live"), Endpoint::start("tried"));
    let shop = App::new("shop").host(HOST).line("[filters.mirror]\napp = \"next\"").endpoint(
        "v1",
        "a",
        live.address(),
    );
    let next = App::new("next").host("next.test").endpoint("v9", "b", tried.address());
    let gateway = Gateway::start(&Config::with_workers(1).app(&shop).app(&next));
    assert_eq!(gateway.get(HOST, "/x").text(), "live");
    eventually(DEADLINE, "the copy came", || tried.requests() == 1);
    assert_eq!((tried.last().target.as_str(), tried.last().fields.get("host")), ("/x", Some(HOST)));
}
