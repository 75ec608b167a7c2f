//! Limits on clients that HTTP/2 has in a way of its own.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tests::{App, Config, Endpoint as Http1Endpoint, Gateway, Load};

use crate::client::{Client, collect, get, request, with};
use crate::endpoint::Endpoint;
use crate::{http2_app, run, until};

fn limited(endpoint: &Http1Endpoint, limits: &str) -> Gateway {
    Gateway::start(&Config::in_front_of(endpoint.address()).gateway(&format!("limits = {{ {limits} }}")))
}

#[test]
fn a_body_that_is_too_large_is_a_413_and_its_connection_goes_on() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = limited(&endpoint, "max_body = \"1KiB\"");
        let client = Client::connect(gateway.web()).await;
        let announced = with(request("POST", "a.test", "/"), &[("content-length", "2048")]);
        let (answer, _body) = client.begin(announced, false).await.expect("the stream opens");
        let answer = collect(answer).await.expect("an answer comes");
        assert_eq!((answer.status(), answer.reason()), (413, Some("body_too_large")));
        let (answer, mut body) =
            client.begin(request("POST", "a.test", "/"), false).await.expect("the stream opens");
        body.send_data(Bytes::from(vec![b'x'; 2048]), false).expect("the stream is open");
        let answer = collect(answer).await.expect("an answer comes");
        assert_eq!((answer.status(), answer.reason()), (413, Some("body_too_large")));
        let code = std::future::poll_fn(|context| body.poll_reset(context)).await;
        assert_eq!(code.expect("the stream is reset"), Reason::NO_ERROR);
        assert_eq!(endpoint.requests(), 0);
        let small = client.send(request("POST", "a.test", "/"), &[b'x'; 1024]).await;
        assert_eq!(small.expect("an answer comes").status(), 200);
    });
}

#[test]
fn a_connection_says_when_it_has_had_its_requests() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = limited(&endpoint, "max_requests = 3");
        let client = Client::connect(gateway.web()).await;
        for _ in 0..3 {
            assert_eq!(client.get("a.test", "/").await.status(), 200);
        }
        until("the connection ends", || client.is_ended()).await;
        assert!(client.send(get("a.test", "/"), b"").await.is_err());
        let closed = [("listener", "web"), ("limit", "max_requests")];
        assert_eq!(gateway.metrics().count("sluice_connections_closed_total", &closed), 1);
    });
}

#[test]
fn heads_are_limited_as_the_listener_says() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = limited(&endpoint, "max_uri = \"256B\", max_fields = 16");
        let client = Client::connect(gateway.web()).await;
        let long = client.get("a.test", &format!("/{}", "x".repeat(300))).await;
        assert_eq!((long.status(), long.reason()), (414, Some("uri_too_long")));
        let many: Vec<_> = (0..16).map(|_| ("x-many", "1")).collect();
        let many = client.send(with(get("a.test", "/"), &many), b"").await.expect("an answer comes");
        assert_eq!((many.status(), many.reason()), (431, Some("head_too_large")));
        assert_eq!(client.get("a.test", "/").await.status(), 200);
    });
}

/// An app whose endpoint takes one connection, of whichever of `workers` workers has its turn.
fn shared_connection(app: App, workers: usize) -> Gateway {
    Gateway::start(&Config::with_workers(workers).app(&app.line("limits = { connections_per_endpoint = 1 }")))
}

#[test]
fn workers_share_an_endpoint_that_permits_fewer_connections_than_there_are_workers() {
    const WORKERS: usize = 3;
    // So many that every worker has some, and that no connection is ever idle.
    const CLIENTS: usize = 24;
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            exchange.answer(200, &[], b"c1");
        })
        .await;
        // Whoever waits for a turn has the time of a connection; on a machine that others keep busy turns take longer.
        let app = http2_app(endpoint.address()).line("timeouts = { connect = \"15s\" }");
        let gateway = shared_connection(app, WORKERS);
        let load = Load::start(gateway.web(), "a", CLIENTS);
        let mut most = 0;
        until("the connection has changed hands a few times", || {
            most = most.max(endpoint.open());
            endpoint.accepted() >= 3 * WORKERS && load.ok() >= 100 * CLIENTS as u64
        })
        .await;
        let report = tokio::task::spawn_blocking(move || load.stop()).await.expect("it ends");
        report.assert_undisturbed();
        // One may be closing while the next one opens.
        assert!(most <= 2, "{most} at once");
    });
}

#[test]
fn a_worker_whose_requests_last_keeps_the_only_connection_and_serves_on_it() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            if exchange.head.uri.path() == "/lasting" {
                std::future::pending::<()>().await;
            }
            exchange.answer(200, &[], b"c1");
        })
        .await;
        let gateway = shared_connection(http2_app(endpoint.address()), 2);
        let client = Client::connect(gateway.web()).await;
        let (_lasting, _) = client.begin(get("a.test", "/lasting"), true).await.expect("the stream opens");
        until("it is under way", || endpoint.requests() == 1).await;
        // Whoever comes to the other worker waits in vain, and says meanwhile that it wants the connection.
        let others: Vec<_> = (0..8).map(|_| Load::start(gateway.web(), "a", 1)).collect();
        for _ in 0..10 {
            assert_eq!(client.get("a.test", "/").await.status(), 200);
        }
        until("some of the others are served too", || others.iter().any(|other| other.ok() > 10)).await;
        tokio::task::spawn_blocking(move || others.into_iter().for_each(|other| drop(other.stop())))
            .await
            .expect("they end");
        assert_eq!(endpoint.accepted(), 1);
    });
}
