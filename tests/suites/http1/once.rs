//! A request that may not be done twice arrives once, wherever the endpoint breaks off. An endpoint counts
//! what reaches it, and resets its connection at every byte of the request that it receives and of the response
//! that it sends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tests::{App, Config, Gateway, RawEndpoint, Wire};

/// Where an endpoint breaks off.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// After it has read so many bytes of the request.
    Reading(usize),
    /// After it has read the whole request and sent so many bytes of its response.
    Sending(usize),
}

#[derive(Debug, Default)]
struct Script {
    /// What happens to the first request that comes; the others of the same step are answered.
    next: Option<Break>,
    /// How many requests have come to each endpoint in this step.
    arrived: [usize; 2],
    /// The bytes of the last whole request.
    request_bytes: usize,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
/// Longer than any request of these tests.
const MOST_BYTES: usize = 4 << 10;

#[derive(Clone, Default)]
struct Backend(Arc<Mutex<Script>>);

impl Backend {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, number: usize) -> RawEndpoint {
        let backend = self.clone();
        RawEndpoint::start_unrecorded(move |wire, _| {
            // A connection that is accepted and carries nothing is no request.
            while let Ok(first) = wire.exactly(1) {
                if !backend.serve(number, wire, first)? {
                    return wire.reset_at_end();
                }
            }
            Ok(())
        })
    }

    /// Whether the connection stays.
    fn serve(&self, number: usize, wire: &mut Wire, mut request: Vec<u8>) -> io::Result<bool> {
        let broken = {
            let mut script = self.script();
            script.arrived[number] += 1;
            script.next.take()
        };
        while !is_whole(&request) {
            if matches!(broken, Some(Break::Reading(bytes)) if request.len() >= bytes) {
                return Ok(false);
            }
            request.extend(wire.exactly(1)?);
            assert!(request.len() < MOST_BYTES, "{}", String::from_utf8_lossy(&request));
        }
        self.script().request_bytes = request.len();
        let sent = match broken {
            Some(Break::Sending(bytes)) => bytes,
            Some(Break::Reading(_)) => 0,
            None => ANSWER.len(),
        };
        wire.send(&ANSWER[..sent])?;
        Ok(sent == ANSWER.len())
    }

    /// One request that is broken off; returns the status, if there was an answer, and arrivals by endpoint.
    fn step(&self, gateway: &Gateway, request: &str, broken: Break) -> (Option<u16>, [usize; 2]) {
        (self.script().next, self.script().arrived) = (Some(broken), [0; 2]);
        let mut client = gateway.connect();
        client.send(request);
        let status = client.try_receive("GET").ok().map(|response| response.status);
        // The script may not have been used, where the gateway has never come to the endpoint.
        let mut script = self.script();
        script.next = None;
        (status, script.arrived)
    }

    /// Leaves a kept connection to every endpoint.
    fn warm_up(&self, gateway: &Gateway, endpoints: usize) {
        self.script().next = None;
        for _ in 0..endpoints {
            assert_eq!(gateway.get("a", "/").status, 200);
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let has_body = tests::contains(&request[..end], b"\r\nContent-Length: 4");
    request.len() == end + 4 + if has_body { 4 } else { 0 }
}

/// One worker, so that a kept connection is found again; as eager to repeat as an app can be.
fn gateway(addresses: &[SocketAddr]) -> Gateway {
    let eager = "retries = { attempts = 10, on = [\"connect_failed\", \"reset\", \"timeout\", \"502\", \"503\"], \
                 budget = { percent = 100, min_per_second = 1000 } }";
    let app = App::new("all").host("*").line(eager).line("outliers = { enabled = false }");
    let app = addresses
        .iter()
        .enumerate()
        .fold(app, |app, (at, address)| app.endpoint("v1", &format!("c{at}"), *address));
    Gateway::start(&Config::with_workers(1).app(&app))
}

const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const BARE_POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\n\r\n";
const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

/// Calls `check` with what came of `request` for every place to break off, on new and on kept connections.
fn everywhere(endpoints: usize, request: &str, mut check: impl FnMut(bool, Break, Option<u16>, [usize; 2])) {
    let backend = Backend::default();
    let servers: Vec<_> = (0..endpoints).map(|number| backend.endpoint(number)).collect();
    let addresses: Vec<_> = servers.iter().map(RawEndpoint::address).collect();
    let gateway = gateway(&addresses);
    // How long a request is upstream, and what the gateway adds is the same each time.
    let (status, _) = backend.step(&gateway, request, Break::Sending(ANSWER.len()));
    assert_eq!(status, Some(200));
    let length = backend.script().request_bytes;
    let reading = (1..length).map(Break::Reading);
    for broken in reading.chain((0..ANSWER.len()).map(Break::Sending)) {
        for is_kept in [true, false] {
            if is_kept {
                backend.warm_up(&gateway, endpoints);
            } else {
                // What is kept breaks, one after the other.
                for _ in 0..endpoints {
                    backend.step(&gateway, BARE_POST, Break::Reading(1));
                }
            }
            let (status, arrived) = backend.step(&gateway, request, broken);
            check(is_kept, broken, status, arrived);
        }
    }
}

#[test]
fn a_post_arrives_once_wherever_its_endpoint_breaks_off() {
    for request in [POST, BARE_POST] {
        everywhere(2, request, |is_kept, broken, status, arrived| {
            assert_eq!(
                arrived.iter().sum::<usize>(),
                1,
                "kept: {is_kept}, {broken:?}, {status:?}, {arrived:?}"
            );
            assert_ne!(status, Some(200), "a broken answer was made whole: kept: {is_kept}, {broken:?}");
        });
    }
}

#[test]
fn a_get_arrives_once_per_endpoint_and_is_answered_while_no_response_has_begun() {
    everywhere(2, GET, |is_kept, broken, status, arrived| {
        let place = format!("kept: {is_kept}, {broken:?}, {status:?}, {arrived:?}");
        assert!(arrived.iter().all(|count| *count <= 1), "{place}");
        let has_begun = matches!(broken, Break::Sending(1..));
        assert_eq!(status == Some(200), !has_begun, "{place}");
        assert_eq!(arrived.iter().sum::<usize>(), if has_begun { 1 } else { 2 }, "{place}");
    });
}

/// docs/decisions/0004: a kept connection that had ended says nothing against its endpoint.
#[test]
fn a_get_arrives_twice_at_an_only_endpoint_where_the_first_time_was_a_kept_connection() {
    everywhere(1, GET, |is_kept, broken, status, arrived| {
        let has_begun = matches!(broken, Break::Sending(1..));
        let wanted = if is_kept && !has_begun { (true, 2) } else { (false, 1) };
        let given = (status == Some(200), arrived[0]);
        assert_eq!(given, wanted, "kept: {is_kept}, {broken:?}, {status:?}");
    });
}
