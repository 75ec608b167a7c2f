//! Errors that the gateway makes, as a gRPC client sees them (gRPC over HTTP/2, "Responses").

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request};
use tests::{App, Config, Gateway};

use crate::client::{Answer, Client, collect, fields, read, request, with};
use crate::endpoint::{Endpoint, response};
use crate::{before_http2, http2_app, run};

/// A message of five bytes: not compressed, its length, nothing in it.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

fn call(host: &str, more: &[(&'static str, &str)]) -> Request<()> {
    let head = with(request("POST", host, "/pkg.Service/Method"), &[("content-type", "application/grpc")]);
    with(with(head, &[("te", "trailers")]), more)
}

fn status(fields: &HeaderMap) -> Option<&str> {
    fields.get("grpc-status").and_then(|status| status.to_str().ok())
}

/// 200 with the status among the fields, and nothing else: "Trailers-Only".
#[track_caller]
fn assert_trailers_only(answer: &Answer, code: &str, reason: &str) {
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(status(&answer.head.headers), Some(code), "{answer:?}");
    assert_eq!(answer.reason(), Some(reason), "{answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/grpc"), "{answer:?}");
    assert!(answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
}

#[test]
fn a_call_that_goes_nowhere_ends_with_a_status() {
    run(async {
        let dead = Endpoint::plain().await.address();
        let config = Config::new()
            .app(&App::new("empty").host("empty.test"))
            .app(&App::new("dead").host("dead.test").http2_endpoint("v1", "c1", dead));
        let gateway = Gateway::start(&config);
        let client = Client::connect(gateway.web()).await;
        for (host, code, reason) in [
            ("nobody.test", "12", "unknown_host"),
            ("empty.test", "14", "no_endpoint"),
            ("dead.test", "14", "connect_failed"),
        ] {
            let answer = client.send(call(host, &[]), EMPTY_MESSAGE).await.expect("an answer comes");
            assert_trailers_only(&answer, code, reason);
        }
        let plain = client.send(request("POST", "nobody.test", "/"), b"").await.expect("an answer comes");
        assert_eq!(plain.status(), 404);
    });
}

#[test]
fn a_call_whose_endpoint_is_too_slow_ends_at_its_own_deadline() {
    run(async {
        let endpoint = Endpoint::silent().await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let began = Instant::now();
        let head = call("a.test", &[("grpc-timeout", "200m")]);
        let answer = client.send(head, EMPTY_MESSAGE).await.expect("an answer comes");
        assert_trailers_only(&answer, "4", "upstream_timeout");
        // Far below the 60 seconds that other requests have.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    });
}

#[test]
fn a_call_that_breaks_off_midway_ends_with_a_status_after_its_messages() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let head = response(200, &[("content-type", "application/grpc")]);
            let mut body = exchange.respond.send_response(head, false).expect("it is open");
            body.send_data(Bytes::from_static(EMPTY_MESSAGE), false).expect("it is open");
            exchange.read().await;
            body.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let (answer, mut stream) = client.begin(call("a.test", &[]), false).await.expect("the stream opens");
        let (head, mut body) = answer.await.expect("an answer begins").into_parts();
        assert_eq!(head.status, 200);
        let first = body.data().await.expect("a message").expect("it is whole");
        assert_eq!(first, EMPTY_MESSAGE);
        stream.send_data(Bytes::new(), true).expect("it is open");
        let (rest, trailers) = read(&mut body).await.expect("an end, not a reset");
        assert!(rest.is_empty());
        assert_eq!(trailers.as_ref().and_then(status), Some("14"), "{trailers:?}");
    });
}

#[test]
fn what_an_endpoint_says_itself_is_left_alone() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let only = exchange.head.headers.contains_key("x-only");
            let (message, _) = exchange.read().await;
            let content = ("content-type", "application/grpc+proto");
            if only {
                let said = [content, ("grpc-status", "5"), ("grpc-message", "not%20found")];
                return exchange.answer(200, &said, b"");
            }
            let trailers = fields(&[("grpc-status", "0"), ("x-bin", "AAA=")]);
            exchange.answer_with_trailers(200, &[content], &message, Some(trailers));
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let only = client.send(call("a.test", &[("x-only", "1")]), EMPTY_MESSAGE).await.expect("it answers");
        assert_eq!(status(&only.head.headers), Some("5"));
        assert_eq!(only.field("grpc-message"), Some("not%20found"));
        assert!(only.body.is_empty() && only.trailers.is_none(), "{only:?}");
        let answer = client.send(call("a.test", &[]), EMPTY_MESSAGE).await.expect("it answers");
        assert_eq!(answer.body, EMPTY_MESSAGE);
        let trailers = answer.trailers.expect("trailers come");
        assert_eq!((status(&trailers), trailers["x-bin"].as_bytes()), (Some("0"), &b"AAA="[..]));
    });
}

#[test]
fn messages_pass_one_by_one_in_both_directions() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let head = response(200, &[("content-type", "application/grpc")]);
            let mut answer = exchange.respond.send_response(head, false).expect("it is open");
            while let Some(Ok(message)) = exchange.body.data().await {
                exchange.body.flow_control().release_capacity(message.len()).expect("it is open");
                answer.send_data(message, false).expect("it is open");
            }
            answer.send_trailers(fields(&[("grpc-status", "0")])).expect("it is open");
        })
        .await;
        let gateway = Gateway::start(&Config::new().app(&http2_app(endpoint.address())));
        let client = Client::connect(gateway.web()).await;
        let (answer, mut stream) = client.begin(call("a.test", &[]), false).await.expect("the stream opens");
        let mut body = answer.await.expect("an answer begins before the request ends").into_body();
        for number in 0..50_u8 {
            stream.send_data(Bytes::from(vec![number; 7]), false).expect("it is open");
            let message = body.data().await.expect("a message").expect("it is whole");
            body.flow_control().release_capacity(message.len()).expect("it is open");
            assert_eq!(message, vec![number; 7]);
        }
        stream.send_data(Bytes::new(), true).expect("it is open");
        let (_, trailers) = read(&mut body).await.expect("the end comes");
        assert_eq!(trailers.as_ref().and_then(status), Some("0"));
    });
}

/// A client that repeats calls by itself is told which ones may be (RFC 9113 section 8.7).
#[test]
fn a_call_that_no_endpoint_looked_at_is_refused_as_such() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            exchange.respond.send_reset(Reason::REFUSED_STREAM);
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let (answer, mut stream) = client.begin(call("a.test", &[]), false).await.expect("the stream opens");
        stream.send_data(Bytes::from_static(EMPTY_MESSAGE), true).expect("it is open");
        match collect(answer).await {
            Ok(answer) => assert_eq!(status(&answer.head.headers), Some("14"), "{answer:?}"),
            Err(error) => assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "{error}"),
        }
    });
}
