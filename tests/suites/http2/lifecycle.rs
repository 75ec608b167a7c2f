//! How connections begin and end.

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use rustix::process::Signal;
use tests::{Config, DEADLINE, Endpoint as Http1Endpoint, Gateway, RawClient, eventually};
use tokio::sync::Semaphore;

use crate::client::{Client, collect, get};
use crate::endpoint::Endpoint;
use crate::raw::{DATA, END_STREAM, GOAWAY, HEADERS, PREFACE, Raw, SETTINGS, WINDOW_UPDATE, frame, setting};
use crate::{before_http1, before_http2, http2_app, run, until};

/// RFC 9113 section 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// An endpoint that answers once per permit.
async fn patient() -> (Endpoint, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let endpoint = Endpoint::start(move |mut exchange| {
        let closed = Arc::clone(&closed);
        async move {
            closed.acquire().await.expect("it stays open").forget();
            exchange.answer(200, &[], b"finished");
        }
    })
    .await;
    (endpoint, gate)
}

#[test]
fn both_versions_are_served_on_one_listener() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for _ in 0..3 {
            assert_eq!(client.get("a.test", "/").await.text(), "c1");
            assert_eq!(gateway.get("a.test", "/").text(), "c1");
        }
        // HTTP/1.1 first, then a preface, is no way to begin (RFC 9113 section 3.3).
        let mut late = gateway.connect();
        assert_eq!(late.get("a", "/").status, 200);
    });
}

#[test]
fn a_listener_without_http2_refuses_the_preface() {
    let endpoint = Http1Endpoint::start("c1");
    let config =
        Config::in_front_of(endpoint.address()).listener("old", &[r#"protocol = "http""#, "http2 = false"]);
    let gateway = Gateway::start(&config);
    let mut client = RawClient::connect(gateway.listener("old"));
    client.send(PREFACE);
    let response = client.receive();
    assert!(matches!(response.status, 400 | 505), "{response:?}");
    assert_eq!(endpoint.requests(), 0);
    assert_eq!(RawClient::connect(gateway.listener("old")).get("a", "/").status, 200);
}

#[test]
fn a_preface_may_come_in_any_pieces() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let settings = frame(SETTINGS, 0, 0, &[]);
    let request = frame(HEADERS, 5, 1, &crate::raw::get_block());
    let all = [PREFACE, &settings, &request].concat();
    for cut in [1, 3, 16, 17, 18, 19, 23, 24, 25, 33, 34, all.len() - 1] {
        let mut client = Raw::connect_silent(gateway.web());
        client.send(&all[..cut]).expect("the gateway listens");
        // Whatever was read of it by then is a piece of its own.
        std::thread::sleep(Duration::from_millis(20));
        client.send(&all[cut..]).expect("the gateway listens");
        let answer = client.await_frame("answer", |frame| frame.stream == 1);
        assert_eq!(answer.status(), Some(200), "cut at {cut}");
    }
}

#[test]
fn a_preface_that_never_ends_is_not_waited_for() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let begun: Vec<_> = [&PREFACE[..10], &PREFACE[..18], &PREFACE[..20], PREFACE]
        .into_iter()
        .map(|part| {
            let mut client = Raw::connect_silent(gateway.web());
            client.send(part).expect("the gateway listens");
            // The header timeout is 10 seconds.
            client.wire.limit(Duration::from_secs(30)).expect("a socket takes a timeout");
            (part.len(), client)
        })
        .collect();
    for (length, mut client) in begun {
        let rest = client.wire.rest();
        assert!(rest.is_ok() || length > 18, "after {length} bytes: {rest:?}");
    }
    eventually(DEADLINE, "all are gone", || gateway.metrics().count("sluice_connections_open", &[]) == 0);
}

#[test]
fn a_wrong_preface_is_no_connection() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    for wrong in [&b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n"[..], b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n"] {
        let mut client = Raw::connect_silent(gateway.web());
        client.send(wrong).expect("the gateway listens");
        client.wire.rest().ok();
    }
    assert_eq!(endpoint.requests(), 0);
    assert_eq!(gateway.get("a", "/").status, 200);
}

/// RFC 9113 section 3.4: the first frame is SETTINGS.
#[test]
fn a_first_frame_other_than_settings_ends_the_connection() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut client = Raw::connect_silent(gateway.web());
    client.send(PREFACE).expect("the gateway listens");
    client.send_get(1).expect("the gateway listens");
    client.cut_off_code();
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn streams_under_way_end_before_the_gateway_does() {
    run(async {
        let (endpoint, gate) = patient().await;
        let mut gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let idle = Client::connect(gateway.web()).await;
        let mut under_way = Vec::new();
        for _ in 0..3 {
            under_way.push(client.begin(get("a.test", "/"), true).await.expect("the stream opens").0);
        }
        until("the endpoint is asked", || endpoint.requests() == 3).await;
        gateway.signal(Signal::TERM);
        eventually(DEADLINE, "it says that it is not ready", || gateway.admin_get("/ready").status == 503);
        until("the idle connection is told", || idle.is_ended()).await;
        idle.ended().await.expect("a GOAWAY without an error");
        assert_eq!(gateway.exited(), None);
        gate.add_permits(3);
        for response in under_way {
            assert_eq!(collect(response).await.expect("it was under way").text(), "finished");
        }
        client.ended().await.expect("a GOAWAY without an error");
        let status = tokio::task::spawn_blocking(move || gateway.wait(DEADLINE)).await.expect("it exits");
        assert_eq!(status.code(), Some(0));
    });
}

/// RFC 9113 section 6.8: requests that cross the GOAWAY are served, so a drain fails none.
#[test]
fn requests_in_a_row_through_a_drain_are_served_or_never_begun() {
    run(async {
        let endpoint = Endpoint::plain().await;
        let mut gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for _ in 0..20 {
            assert_eq!(client.get("a.test", "/").await.status(), 200);
        }
        gateway.signal(Signal::TERM);
        loop {
            match client.send(get("a.test", "/"), b"").await {
                Ok(answer) => assert_eq!(answer.status(), 200),
                Err(error) => {
                    let is_told = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
                    assert!(is_told || error.is_io() && client.is_ended(), "{error:?}");
                    break;
                }
            }
        }
        let status = tokio::task::spawn_blocking(move || gateway.wait(DEADLINE)).await.expect("it exits");
        assert_eq!(status.code(), Some(0));
    });
}

#[test]
fn a_removed_listener_says_goaway_and_finishes() {
    run(async {
        let (endpoint, gate) = patient().await;
        let base = Config::new().app(&http2_app(endpoint.address()));
        let mut gateway = Gateway::start(&base.clone().listener("more", &[r#"protocol = "http""#]));
        let client = Client::connect(gateway.listener("more")).await;
        let (response, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        until("the endpoint is asked", || endpoint.requests() == 1).await;
        let staying = Client::connect(gateway.web()).await;
        assert!(gateway.reconfigure(&base));
        gate.add_permits(2);
        assert_eq!(collect(response).await.expect("it was under way").text(), "finished");
        client.ended().await.expect("a GOAWAY without an error");
        assert_eq!(staying.get("a.test", "/").await.text(), "finished");
    });
}

#[test]
fn what_is_left_after_the_drain_timeout_is_cut() {
    run(async {
        let (endpoint, _gate) = patient().await;
        let config = Config::new().gateway(r#"drain_timeout = "1s""#).app(&http2_app(endpoint.address()));
        let mut gateway = Gateway::start(&config);
        let client = Client::connect(gateway.web()).await;
        let (response, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        until("the endpoint is asked", || endpoint.requests() == 1).await;
        gateway.signal(Signal::TERM);
        match collect(response).await {
            Ok(answer) => assert_eq!((answer.status(), answer.reason()), (503, Some("shutdown"))),
            Err(error) => assert!(error.is_io() || error.is_go_away() || error.is_reset(), "{error:?}"),
        }
        tokio::task::spawn_blocking(move || gateway.wait(DEADLINE)).await.expect("it exits");
    });
}

#[test]
fn a_goaway_from_the_client_lets_its_streams_end() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut client = Raw::connect(gateway.web(), &[]);
    client.send_get(1).expect("the gateway listens");
    client.send_frame(GOAWAY, 0, 0, &[0; 8]).expect("the gateway listens");
    let answer = client.await_frame("answer", |frame| frame.stream == 1);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(client.cut_off_code(), 0);
}

/// An answer that waits in the connection for its stream's window is under way, although nothing is left to do for it:
/// a GOAWAY takes none of its time away.
#[test]
fn the_rest_of_an_answer_is_waited_for_when_its_connection_goes_away() {
    /// Well above the two seconds that a client has to close, once it has all that it asked for.
    const PAUSE: Duration = Duration::from_secs(5);
    let endpoint = Http1Endpoint::start("c1");
    let app = tests::App::new("one").host("elsewhere").endpoint("v1", "c1", endpoint.address());
    let gateway = Gateway::start(&Config::new().app(&app).gateway("limits = { max_requests = 1 }"));
    let mut client = Raw::connect(gateway.web(), &setting(INITIAL_WINDOW_SIZE, 0));
    client.send_get(1).expect("the gateway listens");
    let answer = client.await_frame("answer", |frame| frame.stream == 1);
    assert_eq!((answer.kind, answer.status()), (HEADERS, Some(404)));
    std::thread::sleep(PAUSE);
    client.send_frame(WINDOW_UPDATE, 0, 1, &1_000_u32.to_be_bytes()).expect("it is still open");
    let body = client.await_frame("body", |frame| frame.kind == DATA && frame.flags & END_STREAM != 0);
    assert!(!body.payload.is_empty());
    assert_eq!(client.cut_off_code(), 0);
}
