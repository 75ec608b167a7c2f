//! Bodies that are made smaller: decoded by curl, which links the libraries of the codings' own authors.

use std::process::Command;

use tests::{App, Config, Endpoint, Gate, Gateway, Program, RawEndpoint, Reply};

use crate::{curl, field};

const ON: &str = "[filters.compression]\nlevel = \"fast\"";
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Text that shrinks, and in which every missing or doubled piece shows.
fn text(bytes: usize) -> String {
    (0..)
        .map(|line| format!("line {line} of a page\n"))
        .flat_map(|line| line.into_bytes())
        .take(bytes)
        .map(char::from)
        .collect()
}

/// An endpoint whose `/{path}` answers with the fields after `?` and a body of text.
fn page() -> Endpoint {
    Endpoint::behaving("c1", |request| {
        let wanted = |name: &str| request.target.contains(name);
        let kind = if wanted("png") { "image/png" } else { "text/html; charset=utf-8" };
        let mut fields = vec![("Content-Type", kind.to_owned()), ("Accept-Ranges", "bytes".to_owned())];
        fields.push(("ETag", if wanted("weak") { "W/\"v1\"" } else { "\"v1\"" }.to_owned()));
        if wanted("no-transform") {
            fields.push(("Cache-Control", "public, no-transform".to_owned()));
        }
        if wanted("coded") {
            fields.push(("Content-Encoding", "x-own".to_owned()));
        }
        if wanted("varies") {
            fields.push(("Vary", "Accept-Encoding, Cookie".to_owned()));
        }
        let status = match () {
            () if wanted("none") => 204,
            () if wanted("unmodified") => 304,
            () if wanted("part") => 206,
            () if wanted("missing") => 404,
            () => 200,
        };
        let length = if wanted("short") { 100 } else { 300_000 };
        Reply::Answer(
            status,
            fields,
            if status == 204 || status == 304 { Vec::new() } else { text(length).into() },
        )
    })
}

fn start(endpoint: &Endpoint) -> Gateway {
    Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(ON)))
}

#[test]
fn every_coding_comes_back_as_what_the_endpoint_said() {
    let endpoint = page();
    let gateway = start(&endpoint);
    for protocol in PROTOCOLS {
        for (accepted, coding) in [
            ("gzip", "gzip"),
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, br;q=0.9", "gzip"),
            ("br, *;q=0", "br"),
        ] {
            let accept = format!("Accept-Encoding: {accepted}");
            let answer = curl(&gateway, "/page", &[protocol, "--compressed", "-H", &accept]);
            assert_eq!(field(&answer, "content-encoding"), [coding], "{protocol} {accepted}");
            assert_eq!(field(&answer, "vary"), ["Accept-Encoding"]);
            assert_eq!(field(&answer, "etag"), ["W/\"v1\""]);
            for gone in ["content-length", "accept-ranges"] {
                assert!(field(&answer, gone).is_empty(), "{gone} {accepted}");
            }
            let body = answer.split_once("\n\n").map(|(_, body)| body).unwrap_or_default();
            assert!(body == text(300_000), "{protocol} {accepted}: {} bytes", body.len());
        }
    }
    let metrics = gateway.metrics();
    let zstd = [("app", "all"), ("coding", "zstd")];
    assert_eq!(metrics.count("sluice_compressed_responses_total", &zstd), 4);
    let taken = metrics.count("sluice_compression_bytes_total", &[zstd[0], zstd[1], ("direction", "in")]);
    let given = metrics.count("sluice_compression_bytes_total", &[zstd[0], zstd[1], ("direction", "out")]);
    assert!(taken == 1_200_000 && given > 0 && given < taken / 2, "{taken} {given}");
}

#[test]
fn what_must_not_change_does_not_and_what_could_have_says_so() {
    let endpoint = page();
    let gateway = start(&endpoint);
    let gzip = ["-H", "Accept-Encoding: gzip"];
    for protocol in PROTOCOLS {
        // Nothing to do with it.
        for path in ["/png", "/no-transform", "/coded", "/none", "/part"] {
            let answer = curl(
                &gateway,
                path,
                &[&[protocol], &gzip[..], &["--output", "/dev/null", "--dump-header", "-"]].concat(),
            );
            assert!(!field(&answer, "content-encoding").contains(&"gzip"), "{path}");
            assert!(field(&answer, "vary").is_empty(), "{path}: {answer}");
            assert_eq!(field(&answer, "etag"), ["\"v1\""], "{path}");
        }
        // It could have been, for somebody else or if it were longer.
        for (path, more) in [
            ("/short", &gzip[..]),
            ("/page", &["-H", "Accept-Encoding: gzip;q=0"]),
            ("/page", &[]),
            ("/page", &["--head", "-H", "Accept-Encoding: gzip"]),
            ("/page", &["-H", "Accept-Encoding: gzip", "-H", "Cache-Control: no-transform"]),
        ] {
            let head = ["--output", "/dev/null", "--dump-header", "-"];
            let answer = curl(&gateway, path, &[&[protocol], more, &head[..]].concat());
            assert!(field(&answer, "content-encoding").is_empty(), "{path} {more:?}");
            assert_eq!(field(&answer, "vary"), ["Accept-Encoding"], "{path} {more:?}");
            assert_eq!(field(&answer, "etag"), ["\"v1\""], "{path} {more:?}");
        }
        let answer = curl(&gateway, "/unmodified", &[&[protocol], &gzip[..]].concat());
        assert_eq!(
            (field(&answer, "etag"), field(&answer, "vary")),
            (vec!["W/\"v1\""], vec!["Accept-Encoding"])
        );
        let answer =
            curl(&gateway, "/missing?varies&weak", &[&[protocol, "--compressed"], &gzip[..]].concat());
        assert_eq!(field(&answer, "vary"), ["Accept-Encoding, Cookie"], "said once");
        assert_eq!(
            (field(&answer, "etag"), field(&answer, "content-encoding")),
            (vec!["W/\"v1\""], vec!["gzip"])
        );
    }
}

/// An old client gets what it can frame, whatever it says that it can read.
#[test]
fn http_1_0_gets_bodies_as_they_are() {
    let endpoint = page();
    let gateway = start(&endpoint);
    let answer = curl(&gateway, "/page", &["--http1.0", "-H", "Accept-Encoding: gzip"]);
    assert!(field(&answer, "content-encoding").is_empty());
    assert_eq!(field(&answer, "content-length"), ["300000"]);
}

/// Each event is decoded and printed while the endpoint holds the next one back.
#[test]
fn events_are_not_held_back() {
    for protocol in PROTOCOLS {
        for coding in ["gzip", "br", "zstd"] {
            let gate = Gate::default();
            let closed = gate.clone();
            let endpoint = RawEndpoint::start(move |wire, _| {
                tests::read_head(wire)?;
                wire.send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                      b\r\ndata: one\n\n\r\n",
                )?;
                closed.pass();
                wire.send(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")
            });
            let gateway = Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(ON)));
            let mut command = Command::new("curl");
            command.args([
                "--silent",
                "--no-buffer",
                "--max-time",
                "20",
                "--noproxy",
                "*",
                "--compressed",
                protocol,
            ]);
            command
                .args(["-H", &format!("Accept-Encoding: {coding}")])
                .arg(format!("http://{}/", gateway.web()));
            let mut client = Program::start(&mut command);
            client.wait_for_line("the first event", |line| (line == "data: one").then_some(()));
            gate.open();
            client.wait_for_line("the second event", |line| (line == "data: two").then_some(()));
        }
    }
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\nonly this")
    });
    let gateway = Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(ON)));
    for protocol in PROTOCOLS {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "10", "--noproxy", "*", "--compressed", protocol]);
        command.args(["-H", "Accept-Encoding: gzip"]).arg(format!("http://{}/", gateway.web()));
        let report = tests::finish(&mut command, "", tests::DEADLINE);
        assert_ne!(report.code, Some(0), "{protocol}: {}", report.text());
    }
    let reset = [("reason", "upstream_truncated")];
    tests::eventually(tests::DEADLINE, "it is counted", || {
        gateway.metrics().count("sluice_requests_total", &reset) == 2
    });
}
