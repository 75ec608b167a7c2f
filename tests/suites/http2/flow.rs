//! A slow receiver slows its sender, through both protocols, and costs no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tests::{DEADLINE, Gateway, RawEndpoint, settled};

use crate::client::{Client, get, request, send_some};
use crate::endpoint::{Endpoint, response};
use crate::{before_http1, before_http2, run};

/// What may be on the way: both windows, the kernel's buffers of both connections (up to 4 MiB receive
/// and 4 MiB send each, as Linux tunes them), and the gateway's own.
const MOST_ON_THE_WAY: usize = 20 << 20;
/// Where nothing but HTTP/2's windows holds a sender back.
const MOST_IN_WINDOWS: usize = 4 << 20;
/// How much a sender wants to send.
const ENDLESS: usize = 256 << 20;
const PIECE: usize = 64 << 10;
/// For which nothing more is taken of a sender that was stopped.
const QUIET: Duration = Duration::from_millis(700);
/// What one stalled body may cost the gateway.
const MEMORY: u64 = 16 << 20;

/// Sends until nothing more is taken, and returns how much that was.
async fn upload_until_stalled(gateway: &Gateway) -> (usize, impl Sized) {
    let client = Client::connect(gateway.web()).await;
    let (response, mut body) =
        client.begin(request("POST", "a.test", "/"), false).await.expect("the stream opens");
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        while counting.load(Ordering::Acquire) < ENDLESS {
            let Some(taken) = send_some(&mut body, &piece).await else { break };
            counting.fetch_add(taken, Ordering::AcqRel);
        }
    });
    let counted = tokio::task::spawn_blocking(move || {
        settled(DEADLINE, QUIET, "the upload stalls", || sent.load(Ordering::Acquire) as u64)
    });
    (counted.await.expect("it stalls") as usize, (client, response, task))
}

#[test]
fn an_http2_endpoint_that_does_not_read_stops_an_http2_client() {
    run(async {
        let endpoint = Endpoint::silent().await;
        let gateway = before_http2(endpoint.address());
        let before = gateway.resident_bytes();
        let (sent, _held) = upload_until_stalled(&gateway).await;
        assert!((1..MOST_IN_WINDOWS).contains(&sent), "{sent} bytes were taken");
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes more");
    });
}

#[test]
fn an_http1_endpoint_that_does_not_read_stops_an_http2_client() {
    run(async {
        let (held, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = std::sync::Mutex::new(waiting);
        let endpoint = RawEndpoint::start_unrecorded(move |wire, _| {
            tests::read_head(wire)?;
            // Until the test lets go of its end.
            let _ = waiting.lock().expect("nobody panicked").recv();
            Ok(())
        });
        let gateway = before_http1(endpoint.address());
        let before = gateway.resident_bytes();
        let (sent, _held) = upload_until_stalled(&gateway).await;
        assert!((1..MOST_ON_THE_WAY).contains(&sent), "{sent} bytes were taken");
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes more");
        drop(held);
    });
}

/// An endpoint that sends without end and counts what was taken.
async fn endless() -> (Endpoint, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let endpoint = Endpoint::start(move |mut exchange| {
        let counting = Arc::clone(&counting);
        async move {
            if exchange.head.uri.path() == "/small" {
                return exchange.answer(200, &[], b"small");
            }
            let mut body = exchange.respond.send_response(response(200, &[]), false).expect("it is open");
            let piece = Bytes::from(vec![b'x'; PIECE]);
            while let Some(taken) = send_some(&mut body, &piece).await {
                counting.fetch_add(taken, Ordering::AcqRel);
            }
        }
    })
    .await;
    (endpoint, sent)
}

async fn stalls(sent: Arc<AtomicUsize>) -> usize {
    let counted = tokio::task::spawn_blocking(move || {
        let sent = || sent.load(Ordering::Acquire) as u64;
        tests::eventually(DEADLINE, "the endpoint begins", || sent() > 0);
        settled(DEADLINE, QUIET, "the download stalls", sent)
    });
    counted.await.expect("it stalls") as usize
}

#[test]
fn an_http2_client_that_opens_no_window_stops_an_http2_endpoint_and_no_other_stream() {
    run(async {
        let (endpoint, sent) = endless().await;
        let gateway = before_http2(endpoint.address());
        let before = gateway.resident_bytes();
        let client = Client::connect(gateway.web()).await;
        let (answer, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
        let body = answer.await.expect("an answer begins").into_body();
        let sent = stalls(sent).await;
        assert!(sent < MOST_IN_WINDOWS, "{sent} bytes were taken");
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes more");
        // The stalled stream has used up this connection's window, and no one else's.
        let other = Client::connect(gateway.web()).await;
        assert_eq!(other.get("a.test", "/small").await.text(), "small");
        drop(body);
        assert_eq!(client.get("a.test", "/small").await.text(), "small");
    });
}

#[test]
fn an_http1_client_that_does_not_read_stops_an_http2_endpoint() {
    run(async {
        let (endpoint, sent) = endless().await;
        let gateway = before_http2(endpoint.address());
        let before = gateway.resident_bytes();
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let sent = stalls(sent).await;
        assert!(sent < MOST_ON_THE_WAY, "{sent} bytes were taken");
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes more");
    });
}

/// One stalled stream must not keep a connection's window from the others (RFC 9113 section 5.2.1).
#[test]
fn a_stalled_upload_leaves_window_to_the_other_streams_of_its_connection() {
    run(async {
        // Of the endpoint, so that the stalled stream cannot have all of it there either.
        let mut builder = h2::server::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let endpoint = Endpoint::start_as(builder, |mut exchange| async move {
            if exchange.head.uri.path() == "/stalled" {
                std::future::pending::<()>().await;
            }
            let (body, _) = exchange.read().await;
            exchange.answer(200, &[], body.len().to_string().as_bytes());
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let (_response, mut stalled) =
            client.begin(request("POST", "a.test", "/stalled"), false).await.expect("the stream opens");
        stalled.send_data(Bytes::from(vec![b'x'; ENDLESS / 64]), true).expect("the stream is open");
        let sent = vec![b'y'; 1 << 20];
        let answer = client.send(request("POST", "a.test", "/"), &sent).await.expect("an answer comes");
        assert_eq!(answer.text(), sent.len().to_string());
    });
}
