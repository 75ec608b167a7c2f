//! A request that may not be done twice is done once by endpoints that speak HTTP/2, however they end its stream
//! or their connection: at every byte of the request that they read and of the response that they send.
//! Whoever says that it did nothing may be believed (RFC 9113 section 8.7), and nobody else.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tests::{App, Config, Gateway, RawEndpoint, Wire};

use crate::raw::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame};

/// RFC 9113 section 7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const LAST_CODE: u32 = 13;
/// `:status: 200` in the static table.
const OK: &[u8] = &[0x88];

#[derive(Debug, Clone, Copy)]
enum Break {
    /// Resets the connection after so many bytes of the request.
    Reading(usize),
    /// Resets it after the request and so many bytes of the response.
    Sending(usize),
    Reset(u32),
    /// With the last stream that was looked at: this one, or one before.
    GoAway {
        is_seen: bool,
        code: u32,
    },
}

impl Break {
    /// Whether the endpoint says that it did nothing.
    fn disclaims(self) -> bool {
        matches!(
            self,
            Self::Reset(REFUSED_STREAM) | Self::GoAway { is_seen: false, code: NO_ERROR | REFUSED_STREAM }
        )
    }
}

#[derive(Debug, Default)]
struct Script {
    next: Option<Break>,
    arrived: [usize; 2],
    request_bytes: usize,
}

#[derive(Clone, Default)]
struct Backend(Arc<Mutex<Script>>);

fn answer(stream: u32) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, OK), frame(DATA, END_STREAM, stream, b"done")].concat()
}

impl Backend {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, number: usize) -> RawEndpoint {
        let backend = self.clone();
        RawEndpoint::start_unrecorded(move |wire, _| {
            assert_eq!(wire.exactly(PREFACE.len())?, PREFACE);
            wire.send(&frame(SETTINGS, 0, 0, &[]))?;
            while let Ok(header) = wire.exactly(FRAME_HEADER) {
                let head = Head::of(&header);
                if head.kind == HEADERS {
                    if !backend.serve(number, wire, head)? {
                        return wire.reset_at_end();
                    }
                    continue;
                }
                wire.exactly(head.length)?;
                if head.kind == SETTINGS && head.flags & ACK == 0 {
                    wire.send(&frame(SETTINGS, ACK, 0, &[]))?;
                }
            }
            Ok(())
        })
    }

    /// A request, of which the head of its first frame is read. Whether the connection stays.
    fn serve(&self, number: usize, wire: &mut Wire, mut head: Head) -> io::Result<bool> {
        let broken = {
            let mut script = self.script();
            script.arrived[number] += 1;
            script.next.take()
        };
        let stream = head.stream;
        let mut read = 0;
        loop {
            for _ in 0..head.length {
                if matches!(broken, Some(Break::Reading(bytes)) if read >= bytes) {
                    return Ok(false);
                }
                wire.exactly(1)?;
                read += 1;
            }
            if head.flags & END_STREAM != 0 {
                break;
            }
            head = Head::of(&wire.exactly(FRAME_HEADER)?);
        }
        self.script().request_bytes = read;
        let answer = answer(stream);
        match broken {
            None => wire.send(&answer).map(|()| true),
            Some(Break::Reading(_)) => Ok(false),
            Some(Break::Sending(bytes)) => wire.send(&answer[..bytes]).map(|()| false),
            Some(Break::Reset(code)) => {
                wire.send(&frame(RST_STREAM, 0, stream, &code.to_be_bytes())).map(|()| true)
            }
            Some(Break::GoAway { is_seen, code }) => {
                let last = if is_seen { stream } else { stream.saturating_sub(2) };
                wire.send(&frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()))?;
                // Nothing more comes of it.
                wire.finish()?;
                wire.rest().map(|_| true)
            }
        }
    }

    /// The status, if there was an answer, and arrivals by endpoint.
    fn step(&self, gateway: &Gateway, request: &str, broken: Option<Break>) -> (Option<u16>, [usize; 2]) {
        (self.script().next, self.script().arrived) = (broken, [0; 2]);
        let mut client = gateway.connect();
        client.send(request);
        let status = client.try_receive("GET").ok().map(|response| response.status);
        let mut script = self.script();
        script.next = None;
        (status, script.arrived)
    }
}

const FRAME_HEADER: usize = 9;

#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn of(header: &[u8]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = header else { panic!("{header:?} is no frame's head") };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = stream.try_into().map_or(0, u32::from_be_bytes);
        Self { length, kind: *kind, flags: *flags, stream }
    }
}

/// Calls `check` with what came of `request` for every way to break it off, over new connections and over
/// such as have carried others.
fn everywhere(request: &str, check: impl Fn(Break, Option<u16>, [usize; 2])) {
    let backend = Backend::default();
    let endpoints = [backend.endpoint(0), backend.endpoint(1)];
    let eager = "retries = { attempts = 10, on = [\"connect_failed\", \"reset\", \"timeout\", \"502\", \"503\"], \
                 budget = { percent = 100, min_per_second = 1000 } }";
    let app = App::new("all").host("*").line(eager).line("outliers = { enabled = false }");
    let app = app.http2_endpoint("v1", "c1", endpoints[0].address());
    let app = app.http2_endpoint("v1", "c2", endpoints[1].address());
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    let (status, _) = backend.step(&gateway, request, None);
    assert_eq!(status, Some(200));
    let length = backend.script().request_bytes;
    let codes = || 0..=LAST_CODE;
    let ways = (0..length)
        .map(Break::Reading)
        .chain((0..answer(1).len()).map(Break::Sending))
        .chain(codes().map(Break::Reset))
        .chain(codes().map(|code| Break::GoAway { is_seen: true, code }))
        .chain(codes().map(|code| Break::GoAway { is_seen: false, code }));
    for broken in ways {
        for is_kept in [true, false] {
            let others = if is_kept { [None, None] } else { [Some(Break::Reading(0)); 2] };
            for other in others {
                backend.step(&gateway, BARE_POST, other);
            }
            let (status, arrived) = backend.step(&gateway, request, Some(broken));
            check(broken, status, arrived);
        }
    }
}

const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const BARE_POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\n\r\n";
const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_post_with_a_body_arrives_once() {
    everywhere(POST, |broken, status, arrived| {
        assert_eq!(arrived.iter().sum::<usize>(), 1, "{broken:?}, {status:?}, {arrived:?}");
        assert_ne!(status, Some(200), "{broken:?}");
    });
}

#[test]
fn a_post_without_a_body_arrives_again_only_where_the_first_endpoint_says_that_it_did_nothing() {
    everywhere(BARE_POST, |broken, status, arrived| {
        let count = arrived.iter().sum::<usize>();
        let wanted = if broken.disclaims() { (2, true) } else { (1, false) };
        assert_eq!((count, status == Some(200)), wanted, "{broken:?}, {status:?}, {arrived:?}");
    });
}

#[test]
fn a_get_arrives_once_per_endpoint() {
    everywhere(GET, |broken, status, arrived| {
        assert!(arrived.iter().all(|count| *count <= 1), "{broken:?}, {status:?}, {arrived:?}");
        // Before a whole head there is no response that could have begun.
        let head = frame(HEADERS, END_HEADERS, 1, OK).len();
        let has_begun = matches!(broken, Break::Sending(bytes) if bytes >= head);
        assert!(!has_begun || arrived.iter().sum::<usize>() == 1, "{broken:?}, {status:?}, {arrived:?}");
        assert!(
            has_begun || matches!(broken, Break::GoAway { .. }) || status == Some(200),
            "{broken:?}, {status:?}"
        );
    });
}
