//! curl: HTTP/1.1 and HTTP/2, plain and through TLS.

use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Finished, Framing, RawEndpoint, Reply, eventually, read_head};

use crate::front::{Front, HOST, run, text_of};

/// Larger than every window and buffer on the way.
const LARGE_BYTES: usize = 20 << 20;

/// What curl is told, where it goes, and the version that it must then speak.
struct Way {
    option: &'static str,
    scheme: &'static str,
    version: &'static str,
}

const WAYS: [Way; 4] = [
    Way { option: "--http1.1", scheme: "http", version: "1.1" },
    Way { option: "--http2-prior-knowledge", scheme: "http", version: "2" },
    Way { option: "--http1.1", scheme: "https", version: "1.1" },
    Way { option: "--http2", scheme: "https", version: "2" },
];

fn command(front: &Front, way: &Way) -> Command {
    let port = front.address(way.scheme).port();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "50", "--noproxy", "*", way.option]);
    command.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")]);
    command.arg("--cacert").arg(front.certificate());
    command
}

fn curl(front: &Front, way: &Way, path: &str, more: &[&str]) -> Finished {
    run(command(front, way).args(more).arg(front.url(way.scheme, path)), "")
}

#[test]
fn every_version_is_spoken_with_and_without_tls() {
    let endpoint = Endpoint::start("c1");
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for way in WAYS {
        let answer = curl(&front, &way, "/a?b=c", &["--write-out", " %{http_version} %{http_code}"]);
        assert_eq!(answer.stdout, format!("c1 {} 200", way.version));
        let seen = endpoint.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
        assert_eq!(seen.fields.get("x-forwarded-proto"), Some(way.scheme));
        let port = front.address(way.scheme).port();
        assert_eq!(seen.fields.get("host"), Some(&*format!("{HOST}:{port}")));
    }
}

#[test]
fn large_bodies_come_through_whole_with_and_without_a_length() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.body.clone()));
    let front = Front::start(Config::in_front_of(endpoint.address()));
    let body = text_of(LARGE_BYTES);
    let (sent, received) = (front.folder().join("sent"), front.folder().join("received"));
    std::fs::write(&sent, &body).expect("the folder is ours");
    let source = sent.to_str().expect("the folder's name is text");
    for way in WAYS {
        // What comes from standard input has no length that curl could know.
        for (source, input, framing) in [(source, "", Framing::Length), ("-", &*body, Framing::Chunked)] {
            let mut command = command(&front, &way);
            command.args(["--upload-file", source, "--write-out", "%{http_version} %{http_code}"]);
            command.arg("--output").arg(&received).arg(front.url(way.scheme, "/large"));
            let answer = run(&mut command, input);
            assert_eq!(answer.stdout, format!("{} 200", way.version), "{command:?}");
            let seen = endpoint.last();
            assert_eq!(seen.framing, framing, "{command:?}");
            assert!(seen.body == body.as_bytes(), "{} bytes arrived: {command:?}", seen.body.len());
            let echo = std::fs::read(&received).expect("curl wrote it");
            assert!(echo == body.as_bytes(), "{} bytes came back: {command:?}", echo.len());
        }
    }
}

/// Another gateway is an endpoint that speaks HTTP/2, which the one in front translates to.
#[test]
fn bodies_come_through_whole_to_an_endpoint_that_speaks_http2() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.body.clone()));
    let inner = Front::start(Config::in_front_of(endpoint.address()));
    let app = App::new("all").host("*").h2_endpoint("v1", "c1", inner.address("http"));
    let front = Front::start(Config::new().app(&app));
    let body = text_of(4 << 20);
    for way in WAYS {
        let url = front.url(way.scheme, "/large");
        let answer = run(command(&front, &way).args(["--upload-file", "-"]).arg(url), &body);
        assert!(answer.stdout == body, "HTTP/{}: {} bytes came back", way.version, answer.stdout.len());
        assert_eq!(endpoint.last().body.len(), body.len());
    }
    let is_http2 = |line: &&String| line.contains("\"PUT /large HTTP/2.0\" 200");
    eventually(DEADLINE, "the inner gateway's lines are written", || {
        inner.log().iter().filter(is_http2).count() == WAYS.len()
    });
}

/// curl waits for 100 as long as the test, so that only a 100 can let it go on.
const WAITS: [&str; 5] = ["--header", "Expect: 100-continue", "--expect100-timeout", "40", "--verbose"];

#[test]
fn a_body_is_sent_when_the_endpoint_says_that_it_wants_it() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.body.len().to_string()));
    let front = Front::start(Config::in_front_of(endpoint.address()));
    let body = front.folder().join("body");
    std::fs::write(&body, text_of(1 << 20)).expect("the folder is ours");
    let source = body.to_str().expect("the folder's name is text");
    for way in WAYS.iter().filter(|way| way.version == "1.1") {
        let answer = curl(&front, way, "/", &[&WAITS[..], &["--upload-file", source]].concat());
        assert!(answer.stderr.contains("< HTTP/1.1 100 Continue"), "{}", answer.stderr);
        assert_eq!(answer.stdout, (1 << 20).to_string());
    }
}

#[test]
fn a_body_that_the_endpoint_does_not_want_is_not_sent() {
    let endpoint = RawEndpoint::start(|wire, _| {
        while read_head(wire)?.is_some() {
            wire.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nno.\n")?;
        }
        Ok(())
    });
    let front = Front::start(Config::in_front_of(endpoint.address()));
    let body = front.folder().join("body");
    std::fs::write(&body, text_of(1 << 20)).expect("the folder is ours");
    let source = body.to_str().expect("the folder's name is text");
    let asks = ["--upload-file", source, "--write-out", "%{http_code} %{size_upload}"];
    for way in WAYS.iter().filter(|way| way.version == "1.1") {
        let answer = curl(&front, way, "/", &[&WAITS[..], &asks].concat());
        assert_eq!(answer.stdout, "no.\n413 0", "{}", answer.stderr);
    }
    for received in endpoint.received() {
        assert!(received.ends_with(b"\r\n\r\n"), "{:?}", String::from_utf8_lossy(&received));
    }
}

#[test]
fn trailers_of_a_response_reach_the_client() {
    let endpoint = Endpoint::behaving("c1", |_| {
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nTrailer: x-checksum\r\nTransfer-Encoding: chunked\r\n\r\n\
              5\r\nhello\r\n0\r\nx-checksum: 5d41402a\r\n\r\n"
                .to_vec(),
        )
    });
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for way in WAYS {
        let te = match way.version {
            "2" => &["--header", "TE: trailers"][..],
            _ => &["--header", "TE: trailers", "--header", "Connection: TE"],
        };
        let heads = front.folder().join("heads");
        let file = heads.to_str().expect("the folder's name is text");
        let answer = curl(&front, &way, "/", &[te, &["--dump-header", file]].concat());
        assert_eq!(answer.stdout, "hello");
        let heads = std::fs::read_to_string(&heads).expect("curl wrote it").to_lowercase();
        let (head, trailers) = heads.split_once("\r\n\r\n").expect("an empty line ends the head");
        assert!(!head.contains("x-checksum: "), "{heads}");
        assert!(trailers.contains("x-checksum: 5d41402a"), "HTTP/{}: {heads}", way.version);
    }
}

#[test]
fn a_head_without_its_body_is_understood_as_one() {
    let endpoint = Endpoint::behaving("c1", |_| Reply::ok("twelve bytes"));
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for way in WAYS {
        let answer = curl(&front, &way, "/", &["--head"]).stdout.to_lowercase();
        assert!(answer.contains("content-length: 12\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(endpoint.last().method, "HEAD");
    }
}

/// Debian's curl 7.88 cannot use a connection of prior knowledge twice, whoever serves it: it fails before
/// it sends a second request. `nghttp` and `h2load` do that.
fn reuses(way: &&Way) -> bool {
    way.option != "--http2-prior-knowledge"
}

#[test]
fn one_connection_carries_one_request_after_the_other() {
    let endpoint = Endpoint::start("c1");
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for way in WAYS.iter().filter(reuses) {
        let url = front.url(way.scheme, "/[1-20]");
        let mut command = command(&front, way);
        command.args(["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}\n"]).arg(url);
        let answer = run(&mut command, "");
        let expected = format!("200 1\n{}", "200 0\n".repeat(19));
        assert_eq!(answer.stdout, expected, "HTTP/{}", way.version);
    }
}

#[test]
fn one_http2_connection_carries_many_requests_at_once() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.target.clone()));
    let front = Front::start(Config::in_front_of(endpoint.address()));
    for way in WAYS.iter().filter(|way| way.version == "2").filter(reuses) {
        let mut command = command(&front, way);
        command.args(["--parallel", "--parallel-max", "50", "--write-out", "%{http_version} %{http_code}\n"]);
        command.arg("--output").arg(front.folder().join("answer-#1"));
        let answer = run(command.arg(front.url(way.scheme, "/[1-100]")), "");
        assert_eq!(answer.stdout, "2 200\n".repeat(100), "{}", answer.text());
        for number in 1..=100 {
            let path = front.folder().join(format!("answer-{number}"));
            let text = std::fs::read_to_string(path).expect("curl wrote it");
            assert_eq!(text, format!("/{number}"));
        }
    }
}

/// One app, which CONNECT may open a tunnel to or not.
fn tunnel(endpoint: &Endpoint, allowed: bool) -> Front {
    let line = format!("connect = {allowed}");
    let app = App::new("inside").host("inside.test").line(&line).endpoint("v1", "c1", endpoint.address());
    Front::start(Config::new().app(&app))
}

#[test]
fn connect_opens_a_tunnel_to_an_app_that_allows_it() {
    let endpoint = Endpoint::behaving("c1", |request| Reply::ok(request.body.clone()));
    let front = tunnel(&endpoint, true);
    let body = text_of(1 << 20);
    let mut command = through(&front);
    // No trace of the gateway within the tunnel: what comes out of it is the client's own request.
    let answer = run(command.args(["--upload-file", "-", "http://inside.test:81/within"]), &body);
    assert!(answer.stdout == body, "{} bytes came back", answer.stdout.len());
    let seen = endpoint.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/within"));
    assert_eq!(seen.fields.get("host"), Some("inside.test:81"));
    assert!(seen.fields.get("via").is_none() && seen.fields.get("x-forwarded-for").is_none());
    let is_logged =
        || front.log().iter().any(|line| line.contains("\"CONNECT inside.test:81 HTTP/1.1\" 200"));
    eventually(DEADLINE, "the tunnel has its line", is_logged);
}

#[test]
fn connect_is_refused_by_an_app_that_does_not_allow_it() {
    let endpoint = Endpoint::start("c1");
    let front = tunnel(&endpoint, false);
    let mut command = through(&front);
    command.args(["--write-out", "%{http_connect}", "http://inside.test:81/"]);
    let answer = tests::finish(&mut command, "", DEADLINE);
    // 56: the proxy did not give what was asked for.
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(56), "501"), "{}", answer.text());
    assert_eq!(endpoint.requests(), 0);
}

/// curl with the gateway as its proxy.
fn through(front: &Front) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "50", "--noproxy", "", "--proxytunnel"]);
    command.args(["--proxy", &format!("http://{}", front.address("http"))]);
    command
}
