//! Each phase of a request has its own time, as a client sees it that speaks HTTP/2.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tests::{App, Config, Endpoint as Http1Endpoint, Gateway, RawEndpoint, Reply};

use crate::client::{Client, get, read, request, with};
use crate::endpoint::{Endpoint, response};
use crate::{http2_app, run, until};

fn gateway(app: App, timeouts: &str) -> Gateway {
    Gateway::start(&Config::new().app(&app.line(&format!("timeouts = {{ {timeouts} }}"))))
}

/// In front of an endpoint of either version.
fn both(http1: SocketAddr, http2: SocketAddr, timeouts: &str) -> [Gateway; 2] {
    [gateway(App::everything(http1), timeouts), gateway(http2_app(http2), timeouts)]
}

fn failures(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metrics().count("sluice_requests_total", &[("reason", reason), ("status", "5xx")])
}

#[test]
fn an_endpoint_that_never_says_what_it_takes_is_a_connect_timeout() {
    run(async {
        let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
        let gateway = gateway(http2_app(endpoint.address()), r#"connect = "200ms""#);
        let client = Client::connect(gateway.web()).await;
        // All of them wait for the one connection that is being opened.
        let (first, second) = tokio::join!(client.get("a.test", "/"), client.get("a.test", "/"));
        for answer in [first, second] {
            assert_eq!((answer.status(), answer.reason()), (504, Some("connect_timeout")));
        }
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_an_upstream_timeout() {
    run(async {
        let (http1, http2) = (Http1Endpoint::behaving("c1", |_| Reply::Hang), Endpoint::silent().await);
        for gateway in both(http1.address(), http2.address(), r#"first_byte = "200ms""#) {
            let client = Client::connect(gateway.web()).await;
            for (method, body) in [("GET", ""), ("POST", ""), ("POST", "body")] {
                let answer = client.send(request(method, "a.test", "/"), body.as_bytes()).await;
                let answer = answer.expect("an answer comes");
                assert_eq!((answer.status(), answer.reason()), (504, Some("upstream_timeout")), "{method}");
            }
        }
        assert_eq!((http1.requests(), http2.requests()), (3, 3), "nothing was sent twice");
    });
}

#[test]
fn an_endpoint_that_stops_within_its_response_is_stalled() {
    run(async {
        let http1 = RawEndpoint::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        let http2 = Endpoint::start(|mut exchange| async move {
            let mut body = exchange.respond.send_response(response(200, &[]), false).expect("it is open");
            body.send_data(Bytes::from_static(b"half"), false).expect("it is open");
            pending::<()>().await;
        })
        .await;
        for gateway in both(http1.address(), http2.address(), r#"between_bytes = "200ms""#) {
            let client = Client::connect(gateway.web()).await;
            let (answer, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
            let (head, mut body) = answer.await.expect("an answer begins").into_parts();
            assert_eq!(head.status, 200);
            read(&mut body).await.expect_err("half a response is no whole one");
            until("the reason is counted", || failures(&gateway, "upstream_stalled") == 1).await;
        }
    });
}

#[test]
fn a_request_takes_no_longer_than_its_app_allows() {
    run(async {
        let (http1, http2) = (Http1Endpoint::behaving("c1", |_| Reply::Hang), Endpoint::silent().await);
        for gateway in both(http1.address(), http2.address(), r#"request = "300ms""#) {
            let client = Client::connect(gateway.web()).await;
            let answer = client.get("a.test", "/").await;
            assert_eq!((answer.status(), answer.reason()), (504, Some("request_timeout")));
            // A body that does not come.
            let (answer, _body) =
                client.begin(request("POST", "a.test", "/"), false).await.expect("the stream opens");
            let head = answer.await.expect("an answer comes").into_parts().0;
            assert_eq!(head.headers["x-sluice-reason"], "request_timeout");
        }
    });
}

#[test]
fn a_response_that_flows_for_too_long_is_reset() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let mut body = exchange.respond.send_response(response(200, &[]), false).expect("it is open");
            while body.send_data(Bytes::from_static(b"drop"), false).is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let gateway = gateway(http2_app(endpoint.address()), r#"request = "300ms""#);
        let client = Client::connect(gateway.web()).await;
        let (answer, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        let mut body = answer.await.expect("an answer begins").into_body();
        read(&mut body).await.expect_err("a cut response is no whole one");
        until("the reason is counted", || failures(&gateway, "request_timeout") == 1).await;
        // The stream only: the connection goes on.
        assert!(!client.is_ended());
    });
}

/// Of what a gRPC client and the app say, the earlier holds.
#[test]
fn a_call_ends_at_the_earlier_of_its_own_time_and_its_apps() {
    run(async {
        let endpoint = Endpoint::silent().await;
        let call = |timeout: &'static str| {
            let head = request("POST", "a.test", "/pkg.Service/Method");
            with(head, &[("content-type", "application/grpc"), ("grpc-timeout", timeout)])
        };
        for (timeouts, own, reason) in [
            (r#"first_byte = "1h", request = "2h""#, "200m", "upstream_timeout"),
            (r#"first_byte = "200ms""#, "1H", "upstream_timeout"),
            (r#"request = "300ms""#, "1H", "request_timeout"),
        ] {
            let gateway = gateway(http2_app(endpoint.address()), timeouts);
            let client = Client::connect(gateway.web()).await;
            let answer = client.send(call(own), &[0; 5]).await.expect("an answer comes");
            assert_eq!((answer.field("grpc-status"), answer.reason()), (Some("4"), Some(reason)));
        }
    });
}

#[test]
fn a_kept_connection_is_given_up_when_its_app_says() {
    run(async {
        let endpoint = Endpoint::plain().await;
        let gateway = gateway(http2_app(endpoint.address()), r#"upstream_idle = "1s""#);
        let client = Client::connect(gateway.web()).await;
        assert_eq!(client.get("a.test", "/").await.text(), "c1");
        until("the connection is closed", || endpoint.open() == 0).await;
        assert_eq!(client.get("a.test", "/").await.text(), "c1");
        assert_eq!(endpoint.accepted(), 2);
    });
}
