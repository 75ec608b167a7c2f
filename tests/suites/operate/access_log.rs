//! One line for each request, whatever became of it.

use tests::{Config, DEADLINE, Endpoint, Gateway, eventually};

fn gateway(path: &str, format: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).access_log(path, format);
    (Gateway::start(&config), endpoint)
}

/// The log's lines as soon as there are `count`.
fn lines(gateway: &Gateway, count: usize) -> Vec<String> {
    let path = gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually(DEADLINE, "the lines are written", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

#[test]
fn json_lines_say_who_asked_for_what_and_what_became_of_it() {
    let (gateway, endpoint) = gateway("access.log", "json");
    let mut client = gateway.connect();
    client.send(
        "POST /a?b=\"c\" HTTP/1.1\r\nHost: Shop.test:81\r\nUser-Agent: say \"hi\"\\\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    for (key, value) in [
        ("method", "POST"),
        ("host", "Shop.test:81"),
        ("path", "/a?b=\"c\""),
        ("user_agent", "say \"hi\"\\"),
        ("app", "all"),
        ("version", "v1"),
        ("instance", "c1"),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(entry[key], value, "{key} in {line}");
    }
    assert_eq!(entry["status"], 200, "{line}");
    assert_eq!(entry["endpoint"], endpoint.address().to_string(), "{line}");
    assert_eq!(entry["request_id"].as_str(), endpoint.last().fields.get("x-request-id"), "{line}");
}

#[test]
fn a_line_and_the_endpoint_have_the_same_request_id_whoever_gave_it() {
    let endpoint = Endpoint::start("c1");
    let config =
        Config::in_front_of(endpoint.address()).trusting("127.0.0.1").access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: given\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    assert_eq!(endpoint.last().fields.get("x-request-id"), Some("given"));
    assert_eq!(entry["request_id"], "given", "{line}");
}

#[test]
fn the_client_is_the_one_that_a_trusted_proxy_names() {
    let endpoint = Endpoint::start("c1");
    let config =
        Config::in_front_of(endpoint.address()).trusting("127.0.0.1").access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    // The last address that no trusted proxy has: what stands before it, anybody could have written.
    assert_eq!(entry["client"], "203.0.113.7", "{line}");
}

#[test]
fn a_refused_request_has_a_line_with_its_reason() {
    let (gateway, endpoint) = gateway("access.log", "json");
    endpoint.stop();
    eventually(DEADLINE, "the endpoint refuses", || gateway.get("a", "/").reason() == Some("connect_failed"));
    gateway.connect().send("GET / HTTP/1.1\r\n\r\n");
    eventually(DEADLINE, "both have their line", || {
        let text = lines(&gateway, 2).join("\n");
        text.contains("\"connect_failed\"") && text.contains("\"bad_request\"")
    });
    for line in lines(&gateway, 2) {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn combined_lines_are_what_other_tools_read() {
    let (gateway, _endpoint) = gateway("access.log", "combined");
    let mut client = gateway.connect();
    client.send(
        "GET /a HTTP/1.1\r\nHost: shop.test\r\nReferer: http://r.test/\r\nUser-Agent: say \"hi\"\r\n\r\n",
    );
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    // A quote of the client's must not end the field.
    let rest = line.split_once("] ").expect("the time ends with a bracket").1;
    let quoted = rest.strip_prefix("\"GET /a HTTP/1.1\" 200 2 \"http://r.test/\" \"say ");
    let agent = quoted.unwrap_or_else(|| panic!("{line}"));
    assert!(!agent.starts_with('"') && agent.ends_with('"') && agent.contains("hi"), "{line}");
}

#[test]
fn a_line_cannot_be_forged_by_a_client() {
    for format in ["json", "combined"] {
        let (gateway, _endpoint) = gateway("access.log", format);
        let mut client = gateway.connect();
        client.send(b"GET /%0a HTTP/1.1\r\nHost: a\r\nUser-Agent: x\xff\"\t\\n1.2.3.4 - -\r\n\r\n");
        assert_eq!(client.receive().status, 200);
        client.get("a", "/second");
        let lines = lines(&gateway, 2);
        assert_eq!(lines.len(), 2, "{lines:?}");
        if format == "json" {
            assert!(serde_json::from_str::<serde_json::Value>(&lines[0]).is_ok(), "{lines:?}");
        }
    }
}

#[test]
fn the_log_can_go_to_standard_output() {
    let (gateway, _endpoint) = gateway("-", "json");
    gateway.get("a", "/to-standard-output");
    eventually(DEADLINE, "the line is there", || gateway.stdout().contains("/to-standard-output"));
}
