//! Streams that end early, on either side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use tests::{DEADLINE, RawEndpoint, eventually};
use tokio::sync::Notify;

use crate::client::{Client, collect, get, request, with};
use crate::endpoint::{Endpoint, response};
use crate::{before_http1, before_http2, run, until};

#[test]
fn an_answer_before_the_body_is_whole_reaches_the_client_and_ends_the_upload() {
    run(async {
        let http1 = RawEndpoint::start(|wire, _| {
            tests::read_head(wire)?;
            wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")?;
            wire.rest().map(drop)
        });
        let http2 = Endpoint::start(|mut exchange| async move { exchange.answer(413, &[], b"big") }).await;
        for gateway in [before_http1(http1.address()), before_http2(http2.address())] {
            let client = Client::connect(gateway.web()).await;
            let head = request("POST", "a.test", "/");
            let (answer, mut body) = client.begin(head, false).await.expect("the stream opens");
            body.send_data(Bytes::from_static(b"begin"), false).expect("the stream is open");
            let answer = collect(answer).await.expect("an answer comes");
            assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
            // RFC 9113 section 8.1: the rest is not wanted, and nothing failed.
            let code = std::future::poll_fn(|context| body.poll_reset(context)).await;
            assert_eq!(code.expect("the stream is reset"), Reason::NO_ERROR);
            let again = client.get("a.test", "/").await;
            assert_eq!(again.status(), 413);
        }
    });
}

#[test]
fn a_client_that_gives_a_stream_up_gives_up_the_endpoints_request() {
    run(async {
        let gone = Arc::new(Notify::new());
        let telling = Arc::clone(&gone);
        let http2 = Endpoint::start(move |mut exchange| {
            let telling = Arc::clone(&telling);
            async move {
                if exchange.head.uri.path() == "/next" {
                    return exchange.answer(200, &[], b"next");
                }
                let code = std::future::poll_fn(|context| exchange.respond.poll_reset(context)).await;
                assert_eq!(code.expect("the stream is reset"), Reason::CANCEL);
                telling.notify_one();
            }
        })
        .await;
        let gateway = before_http2(http2.address());
        let client = Client::connect(gateway.web()).await;
        let (response, mut stream) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        until("the endpoint is asked", || http2.requests() == 1).await;
        stream.send_reset(Reason::CANCEL);
        gone.notified().await;
        drop(response);
        // Neither connection suffers.
        assert_eq!(client.get("a.test", "/next").await.text(), "next");
        assert_eq!(http2.accepted(), 1);
        let aborted = || gateway.metrics().count("sluice_requests_total", &[("reason", "client_abort")]);
        eventually(DEADLINE, "it is counted", || aborted() == 1);
    });
}

#[test]
fn a_client_that_gives_a_stream_up_closes_the_http1_connection_behind_it() {
    run(async {
        let endpoint = RawEndpoint::start(|wire, _| {
            tests::read_head(wire)?;
            wire.rest().map(drop)
        });
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let (_response, mut stream) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        until("the endpoint is asked", || endpoint.open() == 1).await;
        stream.send_reset(Reason::CANCEL);
        until("the endpoint's connection is closed", || endpoint.open() == 0).await;
    });
}

#[test]
fn a_client_that_vanishes_gives_up_all_its_requests() {
    run(async {
        let gone = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&gone);
        let endpoint = Endpoint::start(move |mut exchange| {
            let counting = Arc::clone(&counting);
            async move {
                std::future::poll_fn(|context| exchange.respond.poll_reset(context)).await.ok();
                counting.fetch_add(1, Ordering::AcqRel);
            }
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let mut pending = Vec::new();
        for _ in 0..5 {
            pending.push(client.begin(get("a.test", "/"), true).await.expect("the stream opens"));
        }
        until("the endpoint is asked", || endpoint.requests() == 5).await;
        client.vanish();
        until("every stream is reset", || gone.load(Ordering::Acquire) == 5).await;
    });
}

#[test]
fn an_endpoint_that_resets_before_answering_is_a_502() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            exchange.respond.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let answer = client.send(request("POST", "a.test", "/"), b"").await.expect("an answer comes");
        assert_eq!((answer.status(), answer.reason()), (502, Some("upstream_reset")));
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        let response = client.receive();
        assert_eq!((response.status, response.reason()), (502, Some("upstream_reset")));
    });
}

#[test]
fn a_response_that_breaks_off_is_never_taken_for_a_whole_one() {
    run(async {
        let http1 = RawEndpoint::start(|wire, _| {
            tests::read_head(wire)?;
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        });
        let http2 = Endpoint::start(|mut exchange| async move {
            let mut body = exchange.respond.send_response(response(200, &[]), false).expect("it is open");
            body.send_data(Bytes::from_static(b"part"), false).expect("it is open");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            body.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        for gateway in [before_http1(http1.address()), before_http2(http2.address())] {
            let client = Client::connect(gateway.web()).await;
            let error = client.send(get("a.test", "/"), b"").await.expect_err("the response is cut");
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
            assert!(!client.is_ended());
            let mut client = gateway.connect();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.try_receive("GET").expect_err("the response is cut");
            let counted =
                || gateway.metrics().count("sluice_requests_total", &[("reason", "upstream_truncated")]);
            eventually(DEADLINE, "both are counted", || counted() == 2);
        }
    });
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_an_error_of_its_stream() {
    run(async {
        let endpoint = Endpoint::echo().await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for (length, body) in [("4", &b"abc"[..]), ("2", b"abc")] {
            let head = with(request("POST", "a.test", "/"), &[("content-length", length)]);
            match client.send(head, body).await {
                Ok(answer) => assert_eq!(answer.status(), 400, "{length}"),
                Err(error) => assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{length}: {error}"),
            }
        }
        let sent = client.send(request("POST", "a.test", "/"), b"abc").await.expect("an answer comes");
        assert_eq!(sent.text(), "abc");
    });
}

#[test]
fn a_response_that_is_not_as_long_as_announced_is_cut() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let length = exchange.head.uri.path().trim_start_matches('/').to_owned();
            exchange.answer(200, &[("content-length", &length)], b"abc");
        })
        .await;
        let gateway = before_http2(endpoint.address());
        for length in ["4", "2"] {
            let client = Client::connect(gateway.web()).await;
            let asked = client.send(get("a.test", &format!("/{length}")), b"").await;
            assert!(asked.as_ref().map_or(true, |answer| answer.status() == 502), "{length}: {asked:?}");
            let mut client = gateway.connect();
            client.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(client.try_receive("GET").map_or(true, |answer| answer.status == 502), "{length}");
        }
    });
}
