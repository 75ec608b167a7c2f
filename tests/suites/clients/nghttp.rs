//! nghttp and h2load: HTTP/2 with prior knowledge and through TLS, with many streams at once.

use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Reply, eventually};

use crate::front::{Front, HOST, PATIENCE, run, text_of};

const SCHEMES: [&str; 2] = ["http", "https"];

/// Both tools look a host up and know no other way; the name on the certificate is told on the side.
fn url(front: &Front, scheme: &str, path: &str) -> String {
    format!("{scheme}://localhost:{}{path}", front.address(scheme).port())
}

fn nghttp(front: &Front, scheme: &str, path: &str, more: &[&str]) -> String {
    let mut command = Command::new("nghttp");
    let timeout = PATIENCE.as_secs().to_string();
    command.args(["--verbose", "--no-verify-peer", "--timeout", &timeout]).args(more);
    run(command.arg(url(front, scheme, path)), "").stdout
}

#[test]
fn nghttp_sees_frames_and_fields_as_they_should_be() {
    let endpoint = Endpoint::start("c1");
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for scheme in SCHEMES {
        let seen =
            nghttp(&front, scheme, "/a?b=c", &["--header", ":authority: shop.test", "--header", "x-a: 1"]);
        for part in [":status: 200", "x-instance: c1", "recv SETTINGS frame"] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        // Neither side had a reason to complain.
        assert!(!seen.contains("recv GOAWAY") && !seen.contains("RST_STREAM"), "{seen}");
        assert_eq!(seen.contains("negotiated protocol: h2"), scheme == "https", "{seen}");
        let request = endpoint.last();
        assert_eq!(request.target, "/a?b=c");
        assert_eq!(request.fields.get("host"), Some(HOST));
        assert_eq!(request.fields.get("x-a"), Some("1"));
    }
}

#[test]
fn trailers_pass_in_both_directions() {
    let endpoint = Endpoint::behaving("c1", |_| {
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n"
                .to_vec(),
        )
    });
    let front = Front::start(Config::in_front_of(endpoint.address()));
    let body = front.folder().join("body");
    std::fs::write(&body, text_of(100_000)).expect("the folder is ours");
    let file = body.to_str().expect("the folder's name is text");
    for scheme in SCHEMES {
        // With a length the request has no place for trailers in HTTP/1.1, which the endpoint speaks.
        let data = ["--data", file, "--no-content-length", "--trailer", "x-md5: 9e107d9d"];
        let seen = nghttp(&front, scheme, "/upload", &[&data[..], &["--header", "te: trailers"]].concat());
        let head = seen.find(":status: 200").unwrap_or_else(|| panic!("{seen}"));
        let content = seen.find("hello").unwrap_or_else(|| panic!("{seen}"));
        let trailers = seen.find("x-sum: 42").unwrap_or_else(|| panic!("{seen}"));
        assert!(head < content && content < trailers, "{seen}");
        let request = endpoint.last();
        assert_eq!(request.body, text_of(100_000).as_bytes());
        assert_eq!(request.trailers.get("x-md5"), Some("9e107d9d"));
    }
}

#[test]
fn small_windows_are_respected() {
    let body = text_of(300_000);
    let answer = body.clone();
    let endpoint = Endpoint::behaving("c1", move |_| Reply::ok(answer.clone()));
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for scheme in SCHEMES {
        let mut command = Command::new("nghttp");
        // 2^10 - 1 bytes for a stream, 2^11 - 1 more for the connection.
        command.args(["--no-verify-peer", "--window-bits=10", "--connection-window-bits=11"]);
        let answer = run(command.arg(url(&front, scheme, "/")), "");
        assert!(answer.stdout == body, "{} bytes came", answer.stdout.len());
    }
}

/// Runs `requests` over `clients` connections with `streams` each, and reads what h2load counted.
#[track_caller]
fn h2load(front: &Front, scheme: &str, requests: u32, clients: u32, streams: u32, more: &[&str]) -> String {
    let mut command = Command::new("h2load");
    command.args(["-n", &requests.to_string(), "-c", &clients.to_string(), "-m", &streams.to_string()]);
    let report = run(command.args(more).arg(url(front, scheme, "/load")), "");
    let all = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert!(report.stdout.contains(&all), "{}", report.text());
    let statuses = format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx");
    assert!(report.stdout.contains(&statuses), "{}", report.text());
    report.stdout
}

#[test]
fn h2load_gets_an_answer_to_each_of_many_requests() {
    let endpoint = Endpoint::start("c1");
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for (scheme, protocol) in [("http", "Application protocol: h2c"), ("https", "Application protocol: h2")] {
        let report = h2load(&front, scheme, 5_000, 5, 100, &[]);
        assert!(report.contains(protocol), "{report}");
        // 2 bytes of content each, and nothing else.
        assert!(report.contains("(10000) data"), "{report}");
    }
    assert_eq!(endpoint.requests(), 10_000);
    let labels = [("app", "all"), ("status", "2xx")];
    let counted = || front.gateway.metrics().count("sluice_requests_total", &labels);
    eventually(DEADLINE, "every request is counted", || counted() == 10_000);
}

#[test]
fn h2load_uploads_to_an_endpoint_through_a_hundred_streams_at_once() {
    let body = text_of(40_000);
    let expected = body.clone();
    let endpoint = Endpoint::behaving("c1", move |request| {
        let is_whole = request.body == expected.as_bytes();
        Reply::Answer(if is_whole { 200 } else { 500 }, Vec::new(), Vec::new())
    });
    let front = Front::start(Config::in_front_of(endpoint.address()));
    let file = front.folder().join("body");
    std::fs::write(&file, body).expect("the folder is ours");
    let file = file.to_str().expect("the folder's name is text");
    for scheme in SCHEMES {
        h2load(&front, scheme, 500, 2, 100, &["-d", file]);
    }
    assert_eq!(endpoint.requests(), 1_000);
}

/// The same gateway in front of another: HTTP/2 to an endpoint that is not ours to bend.
#[test]
fn h2load_reaches_endpoints_that_speak_http2() {
    let endpoint = Endpoint::start("c1");
    let inner = Front::start(Config::in_front_of(endpoint.address()));
    let app = App::new("all").host("*").h2_endpoint("v1", "c1", inner.address("http"));
    let outer = Front::start(Config::new().app(&app));
    for scheme in SCHEMES {
        h2load(&outer, scheme, 2_000, 4, 100, &[]);
    }
    assert_eq!(endpoint.requests(), 4_000);
    let is_http2 = |line: &&String| line.contains("\"GET /load HTTP/2.0\" 200");
    eventually(DEADLINE, "the inner gateway's lines are written", || {
        inner.log().iter().filter(is_http2).count() == 4_000
    });
}
