use topology::{HttpProbeSettings, ProbeMethod, Protocol};

use super::http::HttpProbe;
use super::*;
use crate::test_server::{Behaviour, PONG, TestServer};

/// Far above what a local exchange takes, so that only a hang meets it.
const AMPLE: Duration = Duration::from_secs(20);
/// For the tests that wait until it is over.
const SHORT: Duration = Duration::from_millis(60);

async fn http(address: SocketAddr, timeout: Duration) -> Outcome {
    let mut kept = None;
    http_on(&mut kept, address, timeout).await
}

async fn http_on(kept: &mut Option<Idle>, address: SocketAddr, timeout: Duration) -> Outcome {
    http_with(kept, address, timeout, "/_ping", &HttpProbeSettings::default()).await
}

async fn http_with(
    kept: &mut Option<Idle>,
    address: SocketAddr,
    timeout: Duration,
    path: &str,
    http: &HttpProbeSettings,
) -> Outcome {
    let probe = HttpProbe { way: way(address, timeout), path, http };
    let (outcome, rest) = probe.run(kept.take()).await;
    if let Some(rest) = rest {
        *kept = rest.into_idle().await.and_then(ProbeStream::rest);
    }
    outcome
}

fn way(address: SocketAddr, timeout: Duration) -> Way<'static> {
    Way { address, tls: None, deadline: Deadline::after(Instant::now(), timeout) }
}

async fn result_of(behaviour: Behaviour) -> ProbeResult {
    let server = TestServer::start(behaviour).await;
    ProbeResult::of(&http(server.address, AMPLE).await)
}

/// An address that was free a moment ago.
async fn refusing() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn request_is_a_plain_get_of_the_path() {
    let server = TestServer::answering(PONG).await;
    http(server.address, AMPLE).await.unwrap();
    let wanted = format!(
        "GET /_ping HTTP/1.1\r\nhost: {}\r\nuser-agent: sluice-probe/{}\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.requests(), [wanted]);
}

#[tokio::test]
async fn request_is_as_the_settings_say() {
    let server = TestServer::answering(PONG).await;
    let http = HttpProbeSettings {
        method: ProbeMethod::Options,
        host: Some("shop.test".into()),
        headers: vec![("x-probe".into(), "1".into()), ("user-agent".into(), "us".into())],
        ..HttpProbeSettings::default()
    };
    http_with(&mut None, server.address, AMPLE, "/up?deep", &http).await.unwrap();
    let wanted = "OPTIONS /up?deep HTTP/1.1\r\nhost: shop.test\r\nuser-agent: us\r\nx-probe: 1\r\n\r\n";
    assert_eq!(server.requests(), [wanted]);
}

#[tokio::test]
async fn status_that_is_asked_for_passes_and_no_other() {
    let http = HttpProbeSettings { status: vec![(301, 302), (401, 401)], ..HttpProbeSettings::default() };
    for (status, wanted) in [
        (200, ProbeResult::Status),
        (301, ProbeResult::Pass),
        (303, ProbeResult::Status),
        (401, ProbeResult::Pass),
    ] {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let server = TestServer::answering(&response).await;
        let outcome = http_with(&mut None, server.address, AMPLE, "/", &http).await;
        assert_eq!(ProbeResult::of(&outcome), wanted, "{status}");
    }
}

#[tokio::test]
async fn body_has_to_contain_what_is_asked_for() {
    let http = HttpProbeSettings { body: Some("pong".into()), ..HttpProbeSettings::default() };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n-po\r\n4\r\nng-x\r\n0\r\n\r\n";
    let until_closed = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nping pong";
    let late = format!("HTTP/1.1 200 OK\r\nContent-Length: 100004\r\n\r\n{}pong", "x".repeat(100_000));
    for (response, wanted) in [
        (PONG, ProbeResult::Pass),
        (chunked, ProbeResult::Pass),
        (until_closed, ProbeResult::Pass),
        (&late, ProbeResult::Body),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npang", ProbeResult::Body),
        ("HTTP/1.1 204 No Content\r\n\r\n", ProbeResult::Body),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\npong", ProbeResult::Status),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npang", ProbeResult::Reset),
    ] {
        let server = TestServer::start(Behaviour::AnswerThenClose(response.to_owned())).await;
        let outcome = http_with(&mut None, server.address, AMPLE, "/", &http).await;
        assert_eq!(ProbeResult::of(&outcome), wanted, "{response:.60}");
    }
    let server = TestServer::answering(PONG).await;
    let mut kept = None;
    for _ in 0..5 {
        http_with(&mut kept, server.address, AMPLE, "/", &http).await.unwrap();
    }
    assert_eq!(server.accepted(), 1, "what was looked through could be kept");
    let server = TestServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npang").await;
    let outcome = http_with(&mut None, server.address, SHORT, "/", &http).await;
    assert_eq!(ProbeResult::of(&outcome), ProbeResult::Timeout, "a body that does not end");
}

#[tokio::test]
async fn only_success_passes() {
    for (status, wanted) in [
        ("200 OK", ProbeResult::Pass),
        ("204 No Content", ProbeResult::Pass),
        ("301 Moved", ProbeResult::Status),
        ("404 Not Found", ProbeResult::Status),
        ("500 Oops", ProbeResult::Status),
    ] {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(result_of(Behaviour::Answer(response)).await, wanted, "{status}");
    }
}

#[tokio::test]
async fn what_is_no_response_fails_as_such() {
    let too_long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for garbage in
        ["SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 banana\r\n\r\n", "\0\0\0\0\r\n\r\n", &too_long, &too_many]
    {
        let result = result_of(Behaviour::AnswerThenClose(garbage.to_owned())).await;
        assert_eq!(result, ProbeResult::BadResponse, "{:?}", &garbage[..20.min(garbage.len())]);
    }
}

#[tokio::test]
async fn refused_connection_says_so() {
    assert!(matches!(http(refusing().await, AMPLE).await, Err(ProbeError::ConnectRefused)));
}

#[tokio::test]
async fn closing_without_a_whole_head_is_a_reset() {
    for part in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        assert_eq!(
            result_of(Behaviour::AnswerThenClose(part.to_owned())).await,
            ProbeResult::Reset,
            "{part}"
        );
    }
}

#[tokio::test]
async fn hanging_endpoint_fails_at_the_timeout() {
    let server = TestServer::start(Behaviour::Hang).await;
    let start = Instant::now();
    let outcome = http(server.address, SHORT).await;
    assert!(matches!(outcome, Err(ProbeError::Timeout(granted)) if granted == SHORT), "{outcome:?}");
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn timeout_bounds_the_whole_head_not_its_parts() {
    let server = TestServer::start(Behaviour::Drip(PONG.to_owned(), SHORT / 4)).await;
    assert!(matches!(http(server.address, SHORT).await, Err(ProbeError::Timeout(_))));
}

#[tokio::test]
async fn slow_body_does_not_undo_a_pass() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    let server = TestServer::answering(head).await;
    let mut kept = None;
    http_on(&mut kept, server.address, SHORT).await.unwrap();
    assert!(kept.is_none(), "a connection with an unread body was kept");
}

#[tokio::test]
async fn connection_serves_many_probes() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n";
    let failing = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    for response in [PONG, chunked, failing, "HTTP/1.1 204 No Content\r\n\r\n"] {
        let server = TestServer::answering(response).await;
        let mut kept = None;
        for _ in 0..5 {
            let _ = http_on(&mut kept, server.address, AMPLE).await;
            assert!(kept.is_some(), "{response}");
        }
        assert_eq!((server.accepted(), server.requests().len()), (1, 5), "{response}");
    }
}

#[tokio::test]
async fn connection_that_may_not_be_reused_is_not() {
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\npong";
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong!";
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for response in [closing, surplus, "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\npong", &large] {
        let server = TestServer::answering(response).await;
        let mut kept = None;
        for _ in 0..3 {
            http_on(&mut kept, server.address, AMPLE).await.unwrap();
        }
        assert_eq!(server.accepted(), 3, "{response:.60}");
    }
}

#[tokio::test]
async fn endpoint_that_closes_after_each_response_passes() {
    let server = TestServer::start(Behaviour::AnswerThenClose(PONG.to_owned())).await;
    let mut kept = None;
    for _ in 0..5 {
        http_on(&mut kept, server.address, AMPLE).await.unwrap();
    }
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn probe_lost_on_a_reused_connection_is_tried_on_a_fresh_one() {
    let server = TestServer::start(Behaviour::CloseOnReuse).await;
    let mut kept = None;
    for _ in 0..4 {
        http_on(&mut kept, server.address, AMPLE).await.unwrap();
        assert!(kept.is_some());
    }
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn half_a_head_on_a_reused_connection_is_not_tried_again() {
    let server = TestServer::answering(PONG).await;
    let mut kept = None;
    http_on(&mut kept, server.address, AMPLE).await.unwrap();
    server.set(Behaviour::AnswerThenClose("HTTP/1.1 2".to_owned()));
    assert!(matches!(http_on(&mut kept, server.address, AMPLE).await, Err(ProbeError::Reset(_))));
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn path_that_cannot_be_sent_is_not_the_endpoints_fault() {
    let server = TestServer::answering(PONG).await;
    for path in ["", "ping", "http://other/", "/a b", "/\r\nX: y"] {
        let outcome = http_with(&mut None, server.address, AMPLE, path, &HttpProbeSettings::default()).await;
        let result = ProbeResult::of(&outcome);
        assert_eq!((result, result.is_conclusive()), (ProbeResult::BadPath, false), "{path:?}");
    }
}

#[tokio::test]
async fn tcp_probe_passes_where_somebody_accepts() {
    let server = TestServer::start(Behaviour::Hang).await;
    tcp::probe(way(server.address, AMPLE), Protocol::Tcp).await.unwrap();
    let outcome = tcp::probe(way(refusing().await, AMPLE), Protocol::Tcp).await;
    assert!(matches!(outcome, Err(ProbeError::ConnectRefused)), "{outcome:?}");
}

#[test]
fn lack_of_file_descriptors_is_our_own_fault() {
    let fault = |errno| ProbeError::from_connect(std::io::Error::from_raw_os_error(errno), SHORT).result();
    assert_eq!(fault(libc::EMFILE), ProbeResult::Local);
    assert_eq!(fault(libc::EADDRNOTAVAIL), ProbeResult::Local);
    assert_eq!(fault(libc::EHOSTUNREACH), ProbeResult::Unreachable);
    assert_eq!(fault(libc::ETIMEDOUT), ProbeResult::ConnectTimeout);
}

#[test]
fn error_text_has_the_causes_and_is_bounded() {
    let error = ProbeError::Unreachable(std::io::Error::other("é".repeat(1000)));
    let text = error.to_text();
    assert!(text.starts_with("no way to the address: é"), "{text}");
    assert!(text.len() <= ProbeError::MAX_TEXT_BYTES);
}
