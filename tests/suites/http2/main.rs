//! HTTP/2 on both sides, and what leaves HTTP, seen from both ends.

mod attacks;
mod client;
mod endpoint;
mod flow;
mod grpc;
mod heads;
mod hedges;
mod lifecycle;
mod limits;
mod once;
mod policies;
mod raw;
mod streams;
mod timeouts;
mod translation;
mod tunnels;
mod upstreams;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tests::{App, Config, DEADLINE, Gateway};

/// What everything in one test may take together.
const TEST_DEADLINE: Duration = DEADLINE.saturating_mul(4);

/// Runs a test's clients and endpoints.
#[track_caller]
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let ended = runtime.block_on(async { tokio::time::timeout(TEST_DEADLINE, test).await });
    runtime.shutdown_background();
    assert!(ended.is_ok(), "not within {TEST_DEADLINE:?}");
}

/// One app that takes every host, whose endpoint speaks HTTP/2.
fn http2_app(address: SocketAddr) -> App {
    App::new("all").host("*").http2_endpoint("v1", "c1", address)
}

/// A gateway in front of an endpoint that speaks HTTP/2.
fn before_http2(address: SocketAddr) -> Gateway {
    Gateway::start(&Config::new().app(&http2_app(address)))
}

/// A gateway in front of an endpoint that speaks HTTP/1.1.
fn before_http1(address: SocketAddr) -> Gateway {
    Gateway::start(&Config::in_front_of(address))
}

/// Bytes that show where they were cut, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Polls without keeping the runtime's thread.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
