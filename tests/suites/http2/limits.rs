//! Limits on clients that HTTP/2 has in a way of its own.

use bytes::Bytes;
use h2::Reason;
use tests::{Config, Endpoint as Http1Endpoint, Gateway};

use crate::client::{Client, collect, get, request, with};
use crate::{run, until};

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
