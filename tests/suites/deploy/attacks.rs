//! The deploy API's port, and those who mean it no good.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Config, DEADLINE, RawClient, eventually};

use crate::stage::{Stage, file};

/// One request on a connection of its own, as it is; `None`: it was closed without an answer.
fn ask(stage: &Stage, head: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut client = RawClient::connect(stage.gateway.deploy());
    // Who is refused early may be closed on while still sending.
    let _refused_early = client.wire.send(head.as_bytes()).and_then(|()| client.wire.send(body));
    let method = head.split(' ').next().unwrap_or_default();
    client.try_receive(method).ok().map(|response| (response.status, response.text()))
}

fn put(stage: &Stage, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ask(stage, &head, body)
}

/// Refused as somebody's own mistake, in words, and by somebody who lives.
#[track_caller]
fn refused(answer: Option<(u16, String)>, what: &str) {
    let (status, text) = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    assert!((400..500).contains(&status), "{what}: {status} {text}");
    let problem: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
    assert!(problem["detail"].is_string() || problem["mistakes"].is_array(), "{what}: {text}");
}

#[test]
fn what_is_malformed_is_refused_and_writes_nothing() {
    let stage = Stage::new();
    let version = |spec: Value| json!({ "versions": { "v1": spec } }).to_string();
    let with = |name: &str, value: Value| {
        let mut spec = json!({ "command": ["/bin/true"] });
        spec[name] = value;
        version(spec)
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!(r#"{{"versions": {{"v1": {{"command": {deep}}}}}}}"#);
    let many: serde_json::Map<String, Value> =
        (0..20_000).map(|number| (format!("v{number}"), json!({ "command": ["/bin/true"] }))).collect();
    let bodies = [
        ("nothing", String::new()),
        ("half of it", r#"{"versions": {"v1": {"command": ["/bin/true"]"#.to_owned()),
        ("a list", "[]".to_owned()),
        ("a number", "1e999".to_owned()),
        ("too deep", deep),
        ("too deep inside", deep_inside),
        ("a string", "{\"versions\": \"v1\"}".to_owned()),
        ("too many versions", json!({ "versions": many }).to_string()),
        ("instances", r#"{"versions": {"v1": {"command": ["a"]}}, "instances": 4294967295}"#.to_owned()),
        ("negative", r#"{"versions": {"v1": {"command": ["a"]}}, "instances": -1}"#.to_owned()),
        ("files out of their folder", with("files", json!({ "/../../etc/passwd": "x" }))),
        ("files that are relative", with("files", json!({ "etc/passwd": "x" }))),
        ("a folder out of the root", with("working_dir", json!("/srv/../root"))),
        ("a NUL in a word", version(json!({ "command": ["/bin/sh\u{0}", "-c"] }))),
        ("a NUL in a value", with("env", json!({ "A": "x\u{0}LD_PRELOAD=/tmp/x" }))),
        ("= in a name", with("env", json!({ "A=B": "x" }))),
        ("a line in a name", with("env", json!({ "A\nB": "x" }))),
        ("a fact", with("env", json!({ "SLUICE_INSTANCE_DIR": "/" }))),
        ("the port", with("env", json!({ "PORT": "1" }))),
        ("a secret as a fact", with("secrets", json!({ "PORT": "x" }))),
        ("a secret's name", with("secrets", json!({ "A": "../../registry" }))),
        ("an image's name", version(json!({ "image": "r:5000/shop:v1 --privileged" }))),
        ("an image's registry", version(json!({ "image": "http://evil.test/shop:v1" }))),
        ("a version's name", json!({ "versions": { "../v1": { "command": ["a"] } } }).to_string()),
        ("a user", with("user", json!("root\u{0}"))),
    ];
    for (what, body) in bodies {
        refused(put(&stage, "/v1/apps/shop", body.as_bytes()), what);
    }
    refused(put(&stage, "/v1/apps/shop", b"{\"versions\": \"\xff\xfe\"}"), "no UTF-8 at all");
    assert!(stage.json(0, &["apps"])["items"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn names_lead_nowhere_else() {
    let stage = Stage::new();
    let body = json!({ "versions": { "v1": { "command": ["/bin/true"] } } }).to_string();
    for name in [
        "..",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fescaped",
        "a%2fb",
        "a%00b",
        ".removed",
        "a%20b",
        "a%0d%0ab",
        &"a".repeat(300),
    ] {
        for path in
            [format!("/v1/apps/{name}"), format!("/v1/hosts/{name}"), format!("/v1/apps/{name}/config")]
        {
            refused_or_unknown(put(&stage, &path, body.as_bytes()), &path);
        }
        let logs = format!("GET /v1/instances/{name}/logs HTTP/1.1\r\nHost: localhost\r\n\r\n");
        refused_or_unknown(ask(&stage, &logs, b""), &logs);
    }
    let entries = fs::read_dir(stage.gateway.folder().join("instances")).expect("it is there");
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.iter().all(|name| name == ".removed"), "{names:?}");
}

#[track_caller]
fn refused_or_unknown(answer: Option<(u16, String)>, what: &str) {
    let (status, text) = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    assert!((400..500).contains(&status), "{what}: {status} {text}");
}

#[test]
fn sizes_are_bounded_and_say_so() {
    let stage = Stage::new();
    // More than is read at all; and what is read, but is no value of a registry.
    for (bytes, status) in [(3 << 20, 413), (1 << 20, 422)] {
        let body =
            json!({ "versions": { "v1": { "command": ["/bin/true"], "env": { "A": "x".repeat(bytes) } } } });
        let answer = put(&stage, "/v1/apps/shop", body.to_string().as_bytes());
        assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(status), "{bytes}: {answer:?}");
    }
    // Each value is within its bound, and all of them are not.
    let env: serde_json::Map<String, Value> =
        (0..40).map(|number| (format!("A{number}"), json!("x".repeat(32 << 10)))).collect();
    let body = json!({ "versions": { "v1": { "command": ["/bin/true"], "env": env } } });
    refused(put(&stage, "/v1/apps/shop", body.to_string().as_bytes()), "all of them");
    let long = format!("GET /v1/apps?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20));
    let answer = ask(&stage, &long, b"");
    assert!(answer.as_ref().is_none_or(|(status, _)| (400..500).contains(status)), "{answer:?}");
    for query in ["wait=301", "wait=-1", "wait=x", "wait=1&wait=2", "what=1"] {
        let (status, body) = stage.api(&format!("GET /v1/apps/shop/status?{query}"), "", &Value::Null);
        assert!(matches!(status, 400 | 404), "{query}: {status} {body}");
    }
    assert_eq!(stage.api("GET /v1/apps", "", &Value::Null).0, 200);
}

#[test]
fn who_waits_and_follows_keeps_nobody_else_out() {
    let stage = Stage::new();
    // Nothing of it can be, so that waiting is long.
    stage.write(
        &file("v1", "")
            .replace("/usr/bin/python3\", \"-u\", \"server.py", "/bin/sh\", \"-c\", \"exec sleep 1000"),
    );
    stage.shown(0, &["deploy", stage.folder()]);
    let request = "GET /v1/apps/shop/status?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut waiting: Vec<RawClient> = (0..128).map(|_| RawClient::connect(stage.gateway.deploy())).collect();
    for client in &mut waiting {
        client.send(request);
    }
    eventually(DEADLINE, "no place is left", || {
        let mut client = RawClient::connect(stage.gateway.deploy());
        client.wire.limit(Duration::from_millis(300)).expect("a socket takes it");
        client.send(request);
        match client.try_receive("GET") {
            Ok(response) => response.status == 429,
            // It has found a place, and keeps it.
            Err(_) => {
                waiting.push(client);
                false
            }
        }
    });
    // Questions that are answered at once, and half of a request from as many again.
    let mut slow: Vec<RawClient> = (0..100).map(|_| RawClient::connect(stage.gateway.deploy())).collect();
    for client in &mut slow {
        client.send("PUT /v1/apps/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
    }
    assert_eq!(stage.api("GET /v1/apps", "", &Value::Null).0, 200);
    let (status, body) = stage.api("GET /v1/events", "", &Value::Null);
    assert_eq!((status, &body["type"]), (429, &json!("urn:sluice:busy")), "{body}");
    // Who has gone gives its place back.
    drop(waiting);
    eventually(DEADLINE, "there are places again", || {
        stage.api("GET /v1/apps/shop/status?wait=1", "", &Value::Null).0 == 200
    });
}

#[test]
fn what_an_instance_writes_reaches_no_terminal_as_it_is() {
    let stage = Stage::with("");
    let script = "printf 'red \\\\033[31m\\\\r\\\\007\\\\n'; exec /usr/bin/python3 -u server.py v1";
    let plain = file("v1", "");
    let command = "command = [\"/usr/bin/python3\", \"-u\", \"server.py\", \"v1\"]";
    assert!(plain.contains(command));
    stage.write(&plain.replace(command, &format!("command = [\"/bin/sh\", \"-c\", \"{script}\"]")));
    stage.deploy();
    let lines = stage.shown(0, &["logs", "shop"]);
    assert!(lines.contains("red ") && lines.contains("listening"), "{lines:?}");
    assert!(!lines.contains(|letter: char| letter.is_control() && letter != '\n'), "{lines:?}");
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let stage = Stage::on(Config::new(), "");
    let body = json!({ "versions": { "v1": { "command": ["/bin/true"] } } }).to_string();
    for fields in ["Host: evil.test\r\n", "Host: localhost\r\nOrigin: http://evil.test\r\n"] {
        let head = format!(
            "PUT /v1/apps/shop HTTP/1.1\r\n{fields}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, text) = ask(&stage, &head, body.as_bytes()).expect("an answer");
        assert_eq!(status, 403, "{text}");
    }
    // Nor does a form, which a browser sends without asking.
    let head = format!(
        "PUT /v1/apps/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(ask(&stage, &head, body.as_bytes()).expect("an answer").0, 415);
    assert!(stage.json(0, &["apps"])["items"].as_array().is_some_and(Vec::is_empty));
}
