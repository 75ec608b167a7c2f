//! Connections to endpoints that speak HTTP/2: shared, refilled, given up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use tests::{Config, DEADLINE, Gateway, RawEndpoint, Wire, eventually};
use tokio::sync::{Barrier, Semaphore};

use crate::client::{Client, get, request};
use crate::endpoint::Endpoint;
use crate::raw::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame,
    receive, setting,
};
use crate::{before_http2, http2_app, run, until};

/// RFC 9113 section 6.5.2.
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// `:status: 200` in the static table.
const OK: &[u8] = &[0x88];

/// Serves a connection frame by frame; `serve` gets every HEADERS frame.
fn framed(
    settings: Vec<u8>,
    serve: impl Fn(&mut Wire, usize, &Frame) -> io::Result<()> + Send + Sync + 'static,
) -> RawEndpoint {
    RawEndpoint::start_unrecorded(move |wire, number| {
        assert_eq!(wire.exactly(PREFACE.len())?, PREFACE);
        wire.send(&frame(SETTINGS, 0, 0, &settings))?;
        while let Some(received) = receive(wire)? {
            match received.kind {
                SETTINGS if received.flags & ACK == 0 => wire.send(&frame(SETTINGS, ACK, 0, &[]))?,
                HEADERS => serve(wire, number, &received)?,
                _ => {}
            }
        }
        Ok(())
    })
}

fn answer(wire: &mut Wire, stream: u32, body: &[u8]) -> io::Result<()> {
    wire.send(&frame(HEADERS, END_HEADERS, stream, OK))?;
    wire.send(&frame(DATA, END_STREAM, stream, body))
}

fn one_worker(address: std::net::SocketAddr) -> Gateway {
    Gateway::start(&Config::with_workers(1).app(&http2_app(address)))
}

#[test]
fn requests_share_a_connection() {
    run(async {
        let endpoint = Endpoint::plain().await;
        let gateway = one_worker(endpoint.address());
        let mut http1 = gateway.connect();
        let http2 = Client::connect(gateway.web()).await;
        for _ in 0..10 {
            assert_eq!(http1.get("a", "/").text(), "c1");
            assert_eq!(http2.get("a", "/").await.text(), "c1");
        }
        assert_eq!((endpoint.accepted(), endpoint.requests()), (1, 20));
        let metrics = gateway.metrics();
        assert_eq!(metrics.count("sluice_upstream_connects_total", &[("app", "all")]), 1);
        assert_eq!(metrics.count("sluice_upstream_reuses_total", &[("app", "all")]), 19);
    });
}

#[test]
fn more_connections_are_opened_when_streams_run_out() {
    run(async {
        const AT_ONCE: usize = 10;
        let all = Arc::new(Barrier::new(AT_ONCE));
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        // Nobody is answered before all are asked: a request that waits for another's stream waits for ever.
        let endpoint = Endpoint::start_as(builder, move |mut exchange| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                exchange.answer(200, &[], b"c1");
            }
        })
        .await;
        let gateway = one_worker(endpoint.address());
        let client = Arc::new(Client::connect(gateway.web()).await);
        let asked = (0..AT_ONCE).map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.get("a.test", "/").await.status() })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert_eq!(asked.await.expect("it does not panic"), 200);
        }
        assert_eq!((endpoint.accepted(), endpoint.requests()), (5, AT_ONCE));
    });
}

#[test]
fn a_refused_stream_is_asked_for_again() {
    run(async {
        let refused = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&refused);
        let endpoint = framed(Vec::new(), move |wire, _, head| {
            if counting.fetch_add(1, Ordering::AcqRel) == 1 {
                return wire.send(&frame(RST_STREAM, 0, head.stream, &7_u32.to_be_bytes()));
            }
            answer(wire, head.stream, b"done")
        });
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        assert_eq!(client.get("a.test", "/").await.text(), "done");
        // Not idempotent, and safe all the same: the endpoint has said that it did nothing.
        let answer = client.send(request("POST", "a.test", "/"), b"").await.expect("an answer comes");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
        assert_eq!(refused.load(Ordering::Acquire), 3);
    });
}

/// RFC 9113 section 6.8: streams beyond the last one of a GOAWAY were not looked at.
#[test]
fn requests_that_a_goaway_left_out_go_over_another_connection() {
    run(async {
        let endpoint = framed(Vec::new(), |wire, number, head| {
            if number > 0 || head.stream == 1 {
                return answer(wire, head.stream, b"done");
            }
            let last = [1_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            wire.send(&frame(GOAWAY, 0, 0, &last))
        });
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        assert_eq!(client.get("a.test", "/").await.text(), "done");
        let answer = client.send(request("POST", "a.test", "/"), b"").await.expect("an answer comes");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
        assert_eq!(endpoint.accepted(), 2);
    });
}

/// What every rolling update does to a connection: GOAWAY, then the streams under way end.
#[test]
fn an_endpoint_that_drains_finishes_what_is_under_way_and_nobody_else_notices() {
    run(async {
        let endpoint = framed(Vec::new(), |wire, number, head| {
            if number > 0 {
                return answer(wire, head.stream, b"new");
            }
            // Answered after the next request has gone elsewhere.
            let last = [head.stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            wire.send(&frame(GOAWAY, 0, 0, &last))?;
            wire.send(&frame(HEADERS, END_HEADERS, head.stream, OK))?;
            std::thread::sleep(std::time::Duration::from_millis(500));
            wire.send(&frame(DATA, END_STREAM, head.stream, b"old"))
        });
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let (first, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        let (head, mut body) = first.await.expect("an answer begins").into_parts();
        assert_eq!(head.status, 200);
        for _ in 0..3 {
            let answer = client.get("a.test", "/").await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "new"), "{answer:?}");
        }
        let (rest, _) = crate::client::read(&mut body).await.expect("the rest comes");
        assert_eq!(rest, b"old");
        assert_eq!(endpoint.accepted(), 2);
        let failures = gateway.metrics().count("sluice_upstream_connect_failures_total", &[]);
        assert_eq!(failures, 0);
    });
}

#[test]
fn an_endpoint_that_closes_an_idle_connection_costs_no_request() {
    run(async {
        let endpoint = framed(Vec::new(), |wire, _, head| {
            answer(wire, head.stream, b"done")?;
            wire.finish()
        });
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for served in 1..=5 {
            assert_eq!(client.get("a.test", "/").await.status(), 200);
            until("the connection is closed", || endpoint.accepted() == served && endpoint.open() == 0).await;
        }
    });
}

#[test]
fn an_endpoint_that_breaks_rules_fails_its_requests_and_nothing_else() {
    run(async {
        let endpoint = framed(Vec::new(), |wire, number, head| match number {
            // A window of nothing, which no connection may have.
            0 => wire.send(&frame(DATA, 0, 0, b"x")),
            // HPACK that names no field.
            1 => wire.send(&frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                head.stream,
                &[0xff, 0xff, 0xff, 0xff, 0x7f],
            )),
            _ => answer(wire, head.stream, b"done"),
        });
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for _ in 0..2 {
            let answer = client.send(request("POST", "a.test", "/"), b"").await.expect("an answer comes");
            assert_eq!(answer.status(), 502, "{answer:?}");
        }
        assert_eq!(client.get("a.test", "/").await.text(), "done");
    });
}

#[test]
fn an_endpoint_that_never_shakes_hands_is_a_timeout_or_a_502() {
    run(async {
        let endpoint = RawEndpoint::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let answer = client.get("a.test", "/").await;
        assert_eq!(answer.status(), 502, "{answer:?}");
    });
}

#[test]
fn streams_beyond_the_limit_wait_for_no_setting() {
    run(async {
        // The endpoint says at once that it takes one stream at a time.
        let gate = Arc::new(Semaphore::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let endpoint = framed(setting(MAX_CONCURRENT_STREAMS, 1), {
            let (most, now) = (Arc::clone(&most), Arc::clone(&now));
            move |wire, _, head| {
                most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                let done = answer(wire, head.stream, b"done");
                now.fetch_sub(1, Ordering::AcqRel);
                done
            }
        });
        drop(gate);
        let gateway = one_worker(endpoint.address());
        let client = Arc::new(Client::connect(gateway.web()).await);
        let asked = (0..20).map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.get("a.test", "/").await.status() })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert_eq!(asked.await.expect("it does not panic"), 200);
        }
    });
}

#[test]
fn an_endpoint_that_is_removed_is_left_without_a_cut_stream() {
    run(async {
        let gate = Arc::new(Semaphore::new(0));
        let closed = Arc::clone(&gate);
        let leaving = Endpoint::start(move |mut exchange| {
            let closed = Arc::clone(&closed);
            async move {
                if exchange.head.uri.path() == "/held" {
                    closed.acquire().await.expect("it stays open").forget();
                }
                exchange.answer(200, &[], b"old");
            }
        })
        .await;
        let staying = Endpoint::plain().await;
        let gateway = one_worker(leaving.address());
        let client = Client::connect(gateway.web()).await;
        let (first, _) = client.begin(get("a.test", "/held"), true).await.expect("the stream opens");
        until("the endpoint is asked", || leaving.requests() == 1).await;
        gateway.put_app(&http2_app(staying.address()));
        eventually(DEADLINE, "the other one is asked", || gateway.get("a", "/").text() == "c1");
        gate.add_permits(1);
        let answer = crate::client::collect(first).await.expect("an answer comes");
        assert_eq!(answer.text(), "old");
    });
}

#[test]
fn a_reset_for_any_other_reason_is_not_repeated_for_what_may_be_done_twice() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            exchange.respond.send_reset(Reason::CANCEL);
        })
        .await;
        let gateway = one_worker(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let answer = client.send(request("POST", "a.test", "/"), b"").await.expect("an answer comes");
        assert_eq!((answer.status(), endpoint.requests()), (502, 1));
    });
}
