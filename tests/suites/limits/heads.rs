//! Limits on heads, and on how often and for how long a connection may send them.

use tests::{Config, DEADLINE, Endpoint, Gateway, RawClient, eventually};

use crate::limited;

#[test]
fn a_listener_limits_heads_as_it_says_and_others_as_the_gateway_says() {
    let endpoint = Endpoint::start("c1");
    let own = ["protocol = \"http\"", "limits = { max_uri = \"512B\", max_fields = 20 }"];
    let config = Config::in_front_of(endpoint.address()).listener("narrow", &own);
    let gateway = limited(config, "max_head = \"2KiB\", max_uri = \"1KiB\"");
    let narrow = gateway.listener("narrow");
    let ask = |address, target: usize, fields: usize, bytes: usize| {
        let fields = "A: b\r\n".repeat(fields);
        let (target, long) = ("x".repeat(target), "y".repeat(bytes));
        let mut client = RawClient::connect(address);
        client.send(format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{fields}Long: {long}\r\n\r\n"));
        let response = client.receive();
        (response.status, response.reason().map(str::to_owned))
    };
    let refused = |status, reason: &str| (status, Some(reason.to_owned()));
    for (address, target, fields, bytes, wanted) in [
        (narrow, 600, 0, 0, refused(414, "uri_too_long")),
        (gateway.web(), 600, 0, 0, (200, None)),
        (gateway.web(), 1_200, 0, 0, refused(414, "uri_too_long")),
        (narrow, 0, 20, 0, refused(431, "head_too_large")),
        (gateway.web(), 0, 20, 0, (200, None)),
        (narrow, 0, 0, 2_048, refused(431, "head_too_large")),
        (gateway.web(), 0, 0, 2_048, refused(431, "head_too_large")),
    ] {
        assert_eq!(ask(address, target, fields, bytes), wanted, "{target} {fields} {bytes}");
    }
}

#[test]
fn a_head_may_be_longer_where_the_gateway_says_so() {
    let endpoint = Endpoint::start("c1");
    let gateway = limited(Config::in_front_of(endpoint.address()), "max_head = \"48KiB\", max_fields = 256");
    let mut client = gateway.connect();
    let fields = format!("A: {}\r\n", "b".repeat(180)).repeat(240);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(client.receive().status, 200);
    assert_eq!(endpoint.last().fields.all("a").len(), 240);
}

#[test]
fn a_slow_head_and_an_idle_connection_have_as_long_as_the_listener_says() {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address());
    let gateway = limited(config, "header_timeout = \"1s\", keepalive_timeout = \"1s\"");
    let mut slow = gateway.connect();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let mut idle = gateway.connect();
    assert_eq!(idle.get("a", "/").status, 200);
    let response = slow.receive();
    assert_eq!((response.status, response.reason()), (408, Some("header_timeout")));
    assert!(idle.is_ended());
    let closed = [("listener", "web"), ("limit", "keepalive_timeout")];
    eventually(DEADLINE, "it is counted", || {
        gateway.metrics().count("sluice_connections_closed_total", &closed) == 1
    });
}

#[test]
fn a_connection_ends_in_order_after_its_last_request() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut before = gateway.connect();
    assert_eq!(before.get("a", "/").status, 200);
    // Taken up on SIGHUP, by connections to come.
    let limited = Config::in_front_of(endpoint.address()).gateway("limits = { max_requests = 3 }");
    assert!(gateway.reconfigure(&limited));
    let mut client = gateway.connect();
    for is_last in [false, false, true] {
        let response = client.get("a", "/");
        assert_eq!((response.status, response.fields.lists("connection", "close")), (200, is_last));
    }
    assert!(client.is_ended());
    for _ in 0..5 {
        assert!(!before.get("a", "/").fields.lists("connection", "close"));
    }
    let closed = [("listener", "web"), ("limit", "max_requests")];
    assert_eq!(gateway.metrics().count("sluice_connections_closed_total", &closed), 1);
}
