//! Who does not read is waited for, not buffered for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tests::{Config, DEADLINE, Gate, Gateway, RawClient, RawEndpoint, Wire, settled};

/// Far above all socket buffers on the way and the memory that a gateway may take for one exchange.
const BODY_BYTES: u64 = 200 << 20;
const MAX_GROWTH_BYTES: u64 = 20 << 20;
/// A transfer that has not moved for so long is held back.
const QUIET: Duration = Duration::from_millis(500);
/// 200 MiB through an unoptimised gateway on a shared machine.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(60);

/// Sends the body, counting what the socket took.
fn send_counted(wire: &mut Wire, sent: &AtomicU64) -> std::io::Result<()> {
    let part = [b'x'; 64 << 10];
    for _ in 0..BODY_BYTES / part.len() as u64 {
        wire.send(&part)?;
        sent.fetch_add(part.len() as u64, Ordering::AcqRel);
    }
    Ok(())
}

fn assert_bounded(gateway: &Gateway, before: u64, sent: u64) {
    assert!(sent < BODY_BYTES, "the whole body was taken although nobody read it");
    let growth = gateway.resident_bytes().saturating_sub(before);
    assert!(growth < MAX_GROWTH_BYTES, "{growth} bytes more after {sent} were sent");
}

#[test]
fn a_client_that_does_not_read_grows_no_memory() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let endpoint = RawEndpoint::start(move |wire, _| {
        tests::read_head(wire)?;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n").as_bytes())?;
        send_counted(wire, &counted)
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = RawClient::connect(gateway.web());
    let before = gateway.resident_bytes();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive_head().status, 200);
    let held = settled(DEADLINE, QUIET, "the endpoint is held back", || sent.load(Ordering::Acquire));
    assert_bounded(&gateway, before, held);
    client.wire.limit(TRANSFER_DEADLINE).expect("the connection is open");
    client.wire.discard(BODY_BYTES).expect("the rest comes as soon as it is read");
}

#[test]
fn an_endpoint_that_does_not_read_grows_no_memory() {
    let gate = Gate::default();
    let closed = gate.clone();
    let endpoint = RawEndpoint::start_unrecorded(move |wire, _| {
        tests::read_head(wire)?;
        closed.pass();
        wire.discard(BODY_BYTES)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = RawClient::connect(gateway.web());
    client.wire.limit(TRANSFER_DEADLINE).expect("the connection is open");
    let before = gateway.resident_bytes();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let upload = thread::spawn(move || send_counted(&mut client.wire, &counted).map(|()| client));
    let held = settled(DEADLINE, QUIET, "the client is held back", || sent.load(Ordering::Acquire));
    assert_bounded(&gateway, before, held);
    gate.open();
    let mut client = upload.join().expect("the upload does not panic").expect("the upload completes");
    assert_eq!(client.receive().text(), "ok");
}
