//! What filters do, and what traces tell, where endpoints speak HTTP/2.

use std::process::Command;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use tests::{App, Config, DEADLINE, Gateway, Reply, finish};

use crate::client::{Client, request, with};
use crate::endpoint::{Endpoint, Exchange};
use crate::{http2_app, pattern, run, until};

const HOST: &str = "shop.test";
/// What curl is told to speak.
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Heads and bodies in the order in which they came.
type Seen = Arc<Mutex<Vec<(http::request::Parts, Vec<u8>)>>>;

/// Answers with its name, once it has read everything.
async fn noting(seen: &Seen) -> Endpoint {
    let seen = seen.clone();
    Endpoint::start(move |mut exchange| {
        let seen = seen.clone();
        async move {
            let (body, _) = exchange.read().await;
            seen.lock().expect("no test panics with it").push((exchange.head.clone(), body));
            exchange.answer(200, &[], b"tried");
        }
    })
    .await
}

/// What curl prints, decoded, with `--include`.
#[track_caller]
fn curl(gateway: &Gateway, target: &str, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "10", "--noproxy", "*"]).args(more);
    let report = finish(command.arg(format!("http://{}{target}", gateway.web())), "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    report.stdout.replace('\r', "").to_ascii_lowercase()
}

#[test]
fn copies_go_in_frames_to_an_endpoint_that_reads_them() {
    run(async {
        // Of a body whose response comes before its end there is no copy: both read first.
        let (live, seen) = (noting(&Seen::default()).await, Seen::default());
        let tried = noting(&seen).await;
        let app =
            App::new("shop").host(HOST).line("split = { v1 = 1 }").line("[filters.mirror]\nversion = \"v2\"");
        let app = app.http2_endpoint("v1", "a", live.address()).http2_endpoint("v2", "b", tried.address());
        let gateway = Gateway::start(&Config::with_workers(1).app(&app));
        let mut http1 = gateway.connect();
        http1.send(format!(
            "POST /order?x=1 HTTP/1.1\r\nHost: {HOST}\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        ));
        assert_eq!(http1.receive().text(), "tried");
        let http2 = Client::connect(gateway.web()).await;
        // More than a window's worth would wait for WINDOW_UPDATE; this is within what is copied.
        let body = pattern(60_000);
        let post = with(request("POST", HOST, "/order?x=2"), &[("x-a", "b")]);
        assert_eq!(http2.send(post, &body).await.expect("it is answered").text(), "tried");
        assert_eq!(http2.get(HOST, "/read").await.text(), "tried");
        let count = |result| {
            let labels = [("app", "shop"), ("result", result)];
            gateway.metrics().count("sluice_mirrored_requests_total", &labels)
        };
        until("all copies are answered", || count("answered") == 3).await;
        let mut copies = std::mem::take(&mut *seen.lock().expect("no test panics with it"));
        copies.sort_by_key(|(head, _)| head.uri.to_string());
        let told: Vec<_> = copies
            .iter()
            .map(|(head, body)| {
                (head.method.as_str(), head.uri.path_and_query().map(|target| target.as_str()), &body[..])
            })
            .collect();
        assert_eq!(
            told,
            [
                ("POST", Some("/order?x=1"), &b"abcde"[..]),
                ("POST", Some("/order?x=2"), &body[..]),
                ("GET", Some("/read"), &b""[..])
            ]
        );
        for (head, _) in &copies {
            assert_eq!(
                (head.headers["x-sluice-mirror"].as_bytes(), head.uri.host()),
                (&b"1"[..], Some(HOST))
            );
        }
        // They share a connection as any other requests would.
        assert_eq!((tried.accepted(), count("failed"), count("skipped")), (1, 0, 0));
    });
}

#[test]
fn a_copy_that_is_reset_or_refused_is_nobodys_concern() {
    run(async {
        let live = Endpoint::plain().await;
        let tried = Endpoint::start(|mut exchange| async move {
            exchange.respond.send_reset(h2::Reason::INTERNAL_ERROR);
        })
        .await;
        let app =
            App::new("shop").host(HOST).line("split = { v1 = 1 }").line("[filters.mirror]\nversion = \"v2\"");
        let app = app.http2_endpoint("v1", "a", live.address()).http2_endpoint("v2", "b", tried.address());
        let gateway = Gateway::start(&Config::with_workers(1).app(&app));
        let client = Client::connect(gateway.web()).await;
        for _ in 0..3 {
            assert_eq!(client.get(HOST, "/").await.text(), "c1");
        }
        let failed = [("app", "shop"), ("result", "failed")];
        until("all copies have failed", || {
            gateway.metrics().count("sluice_mirrored_requests_total", &failed) == 3
        })
        .await;
    });
}

/// Text that shrinks.
fn page() -> Vec<u8> {
    (0..20_000).flat_map(|line| format!("line {line} of a page\n").into_bytes()).collect()
}

#[test]
fn what_comes_in_frames_is_compressed_as_it_passes() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange: Exchange| async move {
            let is_tagged = exchange.head.uri.path() == "/tagged";
            let fields = [("content-type", "text/html"), ("etag", "\"v1\"")];
            let body = if is_tagged { page() } else { b"short".to_vec() };
            let length = body.len().to_string();
            let fields = [fields[0], fields[1], ("content-length", &length)];
            exchange.answer(200, &fields, &body);
        })
        .await;
        let app = http2_app(endpoint.address()).line("[filters.compression]\nlevel = \"fast\"");
        let gateway = Gateway::start(&Config::new().app(&app));
        let wanted = String::from_utf8(page()).expect("it is text");
        for protocol in PROTOCOLS {
            for coding in ["gzip", "br", "zstd"] {
                let accept = format!("Accept-Encoding: {coding}");
                let answer = curl(&gateway, "/tagged", &[protocol, "--compressed", "-H", &accept]);
                let (head, body) = answer.split_once("\n\n").expect("a head and a body");
                assert!(head.contains(&format!("\ncontent-encoding: {coding}")), "{protocol}: {head}");
                assert!(head.contains("\netag: w/\"v1\"") && !head.contains("content-length"), "{head}");
                assert!(body == wanted, "{protocol} {coding}: {} bytes", body.len());
            }
            let answer = curl(&gateway, "/short", &[protocol, "--compressed"]);
            assert!(answer.contains("\ncontent-length: 5") && answer.ends_with("short"), "{answer}");
        }
        let coded = [("app", "all"), ("coding", "gzip")];
        assert_eq!(gateway.metrics().count("sluice_compressed_responses_total", &coded), 2);
    });
}

#[test]
fn failures_of_an_endpoint_that_speaks_http2_have_the_apps_page_and_its_own_errors_stay() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            match exchange.head.uri.path() {
                "/missing" => exchange.answer(404, &[("content-type", "text/plain")], b"my own"),
                _ => exchange.respond.send_reset(h2::Reason::INTERNAL_ERROR),
            }
        })
        .await;
        let lines = "[filters.error_pages]\ntitle = \"Fish\"\ntexts = { 502 = \"Soon back.\" }";
        let gateway = Gateway::start(&Config::new().app(&http2_app(endpoint.address()).line(lines)));
        for protocol in PROTOCOLS {
            let html = ["Accept: text/html", "Accept: application/json"];
            let answer = curl(&gateway, "/", &[protocol, "-X", "POST", "-H", html[0]]);
            for part in [" 502", "text/html", "<h1>502 bad gateway</h1>", "soon back.", "upstream_reset"] {
                assert!(answer.contains(part), "{protocol} {part}: {answer}");
            }
            let answer = curl(&gateway, "/", &[protocol, "-X", "POST", "-H", html[1]]);
            assert!(answer.contains("application/problem+json"), "{answer}");
            let answer = curl(&gateway, "/missing", &[protocol, "-H", html[0]]);
            assert!(answer.contains(" 404") && answer.ends_with("my own"), "{answer}");
        }
        drop(endpoint);
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_endpoint_is_told_the_span_of_its_attempt() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    run(async {
        let seen = Seen::default();
        let endpoint = noting(&seen).await;
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = spans.clone();
        let collector = tests::Endpoint::behaving("collector", move |request| {
            let Ok(message) = ExportTraceServiceRequest::decode(&request.body[..]) else {
                return Reply::Answer(400, Vec::new(), Vec::new());
            };
            let scopes = message.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            kept.lock().expect("no test panics with it").extend(scopes.flat_map(|scope| scope.spans));
            Reply::ok("")
        });
        let section =
            format!("[gateway.tracing]\nendpoint = \"http://{}\"\nsample = 1.0", collector.address());
        let gateway = Gateway::start(&Config::new().app(&http2_app(endpoint.address())).section(&section));
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let mut http1 = gateway.connect();
        http1.send(format!("GET /1 HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\ntracestate: a=1\r\n\r\n"));
        assert_eq!(http1.receive().status, 200);
        let http2 = Client::connect(gateway.web()).await;
        let get = with(request("GET", "a", "/2"), &[("traceparent", &parent), ("tracestate", "a=1")]);
        assert_eq!(http2.send(get, b"").await.expect("it is answered").status(), 200);
        let attempts = || -> Vec<Span> {
            let spans = spans.lock().expect("no test panics with it");
            spans.iter().filter(|span| span.kind == SpanKind::Client as i32).cloned().collect()
        };
        until("both attempts are told", || attempts().len() == 2).await;
        let mut told: Vec<_> = attempts()
            .iter()
            .map(|span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)))
            .collect();
        told.sort();
        let seen = std::mem::take(&mut *seen.lock().expect("no test panics with it"));
        let values = |name: &str| -> Vec<String> {
            let all = seen.iter().flat_map(|(head, _)| head.headers.get_all(name));
            all.map(|value| value.to_str().expect("it is text").to_owned()).collect()
        };
        let mut heard = values("traceparent");
        heard.sort();
        assert_eq!(heard, told, "each is the parent of what the endpoint does, once");
        assert!(heard.iter().all(|parent| parent.contains(TRACE)), "{heard:?}");
        assert_eq!(values("tracestate"), ["a=1", "a=1"]);
    });
}
