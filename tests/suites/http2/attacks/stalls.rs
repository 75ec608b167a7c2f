//! Clients that hold what they were given, and give nothing back.

use std::thread;

use tests::{DEADLINE, Endpoint as Http1Endpoint, Reply, eventually, settled};

use super::{ATTACKERS, MEMORY};
use crate::before_http1;
use crate::raw::{
    END_HEADERS, END_STREAM, HEADERS, Raw, WINDOW_UPDATE, frame, get_block, post_block, setting,
};

/// As many streams as a connection may have.
const STREAMS: u32 = 128;
const LARGE: usize = 1 << 20;
/// What a stalled response may hold: the last read of its endpoint, as large as buffers get.
const PER_STALLED_STREAM: u64 = 34 << 10;
/// And what h2 was handed of it, where the client's windows are open and its socket is not read.
const PER_UNREAD_STREAM: u64 = PER_STALLED_STREAM + (32 << 10);
const ALL_STREAMS: u64 = STREAMS as u64 * ATTACKERS as u64;
/// RFC 9113 section 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;

fn large() -> Http1Endpoint {
    let body = vec![b'x'; LARGE];
    Http1Endpoint::behaving("c1", move |request| {
        if request.target == "/small" { Reply::ok("small") } else { Reply::ok(body.clone()) }
    })
}

/// Ten clients with `window` per stream ask for all that they may, and never read an answer. What they
/// cost once nothing moves.
fn held_by(window: u32, connection_window: u32) -> u64 {
    let endpoint = large();
    let gateway = before_http1(endpoint.address());
    assert_eq!(gateway.get("a", "/").body.len(), LARGE);
    let before = gateway.resident_bytes();
    let clients: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let mut client = Raw::connect(gateway.web(), &setting(INITIAL_WINDOW_SIZE, window));
            if connection_window > 0 {
                let update = frame(WINDOW_UPDATE, 0, 0, &connection_window.to_be_bytes());
                client.send(&update).expect("the gateway listens");
            }
            for number in 0..STREAMS {
                client.send_get(2 * number + 1).expect("the gateway listens");
            }
            client
        })
        .collect();
    let held = settled(DEADLINE, std::time::Duration::from_secs(1), "nothing moves", || endpoint.requests());
    assert!(held > 1);
    let grown = gateway.resident_bytes().saturating_sub(before);
    println!("window {window}: {} requests, {} KiB held", held - 1, grown >> 10);
    // The endpoint's backlog may still be full of what was asked of it at once.
    eventually(DEADLINE, "others are served", || gateway.get("a", "/small").text() == "small");
    drop(clients);
    grown
}

#[test]
fn streams_whose_windows_stay_shut_hold_little() {
    for window in [0, 1] {
        let grown = held_by(window, 0);
        assert!(grown < ALL_STREAMS * PER_STALLED_STREAM + MEMORY, "{window}: {grown} bytes more");
    }
}

#[test]
fn a_client_that_never_reads_its_socket_holds_little() {
    let grown = held_by(0x7fff_ffff, 0x7000_0000);
    assert!(grown < ALL_STREAMS * PER_UNREAD_STREAM + MEMORY, "{grown} bytes more");
}

/// Bodies that come one byte at a time on every stream: each is a request that waits for its body, and
/// nobody else waits.
#[test]
fn trickled_bodies_on_every_stream_stop_nobody() {
    let endpoint = large();
    let gateway = before_http1(endpoint.address());
    let before = gateway.resident_bytes();
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                let mut client = Raw::connect(gateway.web(), &[]);
                for number in 0..STREAMS {
                    let head = frame(HEADERS, END_HEADERS, 2 * number + 1, &post_block());
                    client.send(&head).expect("the gateway listens");
                }
                for _ in 0..5 {
                    for number in 0..STREAMS {
                        // Whether it is cut off is not the point here.
                        client.send_frame(crate::raw::DATA, 0, 2 * number + 1, b"x").ok();
                    }
                }
            });
        }
        let mut honest = gateway.connect();
        for _ in 0..20 {
            assert_eq!(honest.get("a", "/small").text(), "small");
        }
    });
    let grown = gateway.resident_bytes().saturating_sub(before);
    println!("trickled: {} KiB", grown >> 10);
    assert!(grown < 2 * MEMORY, "{grown} bytes more");
}

/// RFC 9113 section 5.1.2: what is beyond the limit is refused, and what is within it is served.
#[test]
fn streams_beyond_the_limit_are_refused_one_by_one() {
    let endpoint = Http1Endpoint::behaving("c1", |_| Reply::Hang);
    let gateway = before_http1(endpoint.address());
    let mut client = Raw::connect(gateway.web(), &[]);
    for number in 0..=STREAMS {
        let flags = END_HEADERS | END_STREAM;
        client.send_frame(HEADERS, flags, 2 * number + 1, &get_block()).expect("the gateway listens");
    }
    let refused = client.await_frame("refusal", |frame| frame.kind == crate::raw::RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (2 * STREAMS + 1, 7));
}
