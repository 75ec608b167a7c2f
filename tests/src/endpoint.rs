//! An HTTP endpoint in the test process that behaves as told.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::gate::Gate;
use crate::message::{Framing, Request};
use crate::server::Server;
use crate::wire::Wire;

/// What an endpoint does with a request that it has read completely.
pub enum Reply {
    /// `status`, fields and a body with its Content-Length.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes; the connection stays.
    Raw(Vec<u8>),
    /// These bytes, then the end of the connection.
    RawThenClose(Vec<u8>),
    /// These bytes, then a reset.
    RawThenReset(Vec<u8>),
    /// Nothing until the peer goes away.
    Hang,
    Close,
    Reset,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer(200, Vec::new(), body.into())
    }
}

type Behaviour = dyn Fn(&Request) -> Reply + Send + Sync;

/// Says who it is in the body and in `x-instance`, answers `/_ping`, and remembers what it was asked.
pub struct Endpoint {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    healthy: AtomicBool,
    requests: AtomicU64,
    pings: AtomicU64,
    last: Mutex<Option<Request>>,
    behaviour: Box<Behaviour>,
}

impl Endpoint {
    /// Answers everything with its id.
    pub fn start(id: &str) -> Self {
        Self::start_at(id, loopback())
    }

    /// As [`Endpoint::start`], on the address that an earlier one had.
    pub fn start_at(id: &str, address: SocketAddr) -> Self {
        let body = id.to_owned();
        Self::launch(id, address, Box::new(move |_| Reply::ok(body.clone())))
    }

    pub fn behaving(id: &str, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(id, loopback(), Box::new(behaviour))
    }

    /// Answers `/slow` once `gate` is open, everything else at once.
    pub fn gated(id: &str, gate: &Gate) -> Self {
        let closed = gate.clone();
        Self::behaving(id, move |request| {
            if request.target == "/slow" {
                closed.pass();
            }
            Reply::ok("finished")
        })
    }

    fn launch(id: &str, address: SocketAddr, behaviour: Box<Behaviour>) -> Self {
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            healthy: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            last: Mutex::new(None),
            behaviour,
        });
        let serving = Arc::clone(&shared);
        let server = Server::start(address, move |stream, _| {
            // A peer that goes away in the middle is nothing that an endpoint can help.
            Wire::new(stream).and_then(|wire| serving.serve(wire)).ok();
        });
        Self { server, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Requests other than probes.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }

    pub fn pings(&self) -> u64 {
        self.shared.pings.load(Ordering::Acquire)
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> usize {
        self.server.accepted()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.server.open()
    }

    /// The last request that was no probe.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    pub fn last(&self) -> Request {
        let last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.expect("the endpoint was asked at least once")
    }

    /// Whether `/_ping` says 200 or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::Release);
    }

    /// Dies: refuses connections and cuts those that are open.
    pub fn stop(&self) {
        self.server.stop();
    }
}

impl Shared {
    fn serve(&self, mut wire: Wire) -> io::Result<()> {
        while let Some(mut request) = Request::read_head(&mut wire)? {
            if request.fields.lists("expect", "100-continue") && request.framing != Framing::None {
                wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            request.read_body(&mut wire)?;
            let reply = self.answer(&request);
            if !self.send(&mut wire, &request, reply)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.target == "/_ping" {
            self.pings.fetch_add(1, Ordering::AcqRel);
            let status = if self.healthy.load(Ordering::Acquire) { 200 } else { 503 };
            return Reply::Answer(status, Vec::new(), Vec::new());
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        self.requests.fetch_add(1, Ordering::AcqRel);
        (self.behaviour)(request)
    }

    /// Whether the connection stays.
    fn send(&self, wire: &mut Wire, request: &Request, reply: Reply) -> io::Result<bool> {
        match reply {
            Reply::Answer(status, fields, body) => {
                wire.send(&self.render(status, &fields, &body, request.method == "HEAD"))?;
                Ok(!request.fields.lists("connection", "close"))
            }
            Reply::Raw(bytes) => wire.send(&bytes).map(|()| true),
            Reply::RawThenClose(bytes) => wire.send(&bytes).map(|()| false),
            Reply::RawThenReset(bytes) => {
                wire.send(&bytes).and_then(|()| wire.reset_at_end()).map(|()| false)
            }
            Reply::Hang => wire.rest().map(|_| false),
            Reply::Close => Ok(false),
            Reply::Reset => wire.reset_at_end().map(|()| false),
        }
    }

    fn render(&self, status: u16, fields: &[(&str, String)], body: &[u8], head_only: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {status} Status\r\nx-instance: {}\r\n", self.id);
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 204 && status != 304 {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if !head_only {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
