//! Who sends too slowly is not waited for.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::plain;

/// Well above the gateway's own limit of ten seconds for a head.
const HEADER_DEADLINE: Duration = Duration::from_secs(25);
/// Between two drops of a slow sender.
const PAUSE: Duration = Duration::from_millis(500);

#[test]
fn a_head_that_never_ends_is_a_408_however_slowly_it_comes() {
    let (gateway, endpoint) = plain();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    client.wire.limit(PAUSE).expect("the connection is open");
    let start = Instant::now();
    let response = loop {
        match client.try_receive("GET") {
            Ok(response) => break response,
            // A field now and then must not buy more time.
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < HEADER_DEADLINE => {
                client.send("X: y\r\n");
            }
            Err(error) => panic!("no response after {:?}: {error}", start.elapsed()),
        }
    };
    assert_eq!((response.status, response.reason()), (408, Some("header_timeout")));
    assert_eq!(endpoint.requests(), 0);
}
