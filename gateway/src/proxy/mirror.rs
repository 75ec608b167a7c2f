//! Copies of requests: sent to somebody who is only tried, after whom nobody waits.
//!
//! A copy is a task of its own. It has the original's head, marked, and its body, which was kept as it passed; what is
//! answered is read and forgotten. Nothing that happens to it reaches the original.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use tokio::task::spawn_local;
use topology::filters::MirrorTarget;

use super::answer::Answer;
use super::attempt::Attempt;
use super::client::{Client, Origin};
use super::facts::{After, Facts, Heads};
use super::relay::{Decoder, FRAMED_READ, Relay};
use super::tee::Tee;
use super::wire::{Gone, Reply, Sent, Sink, Source, Upward, Wire};
use crate::filter::Mirror;
use crate::listener::HttpListener;
use crate::message::encode::Delimiting;
use crate::message::{Framing, Method};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Upstream};
use crate::worker::{Admitted, Entry, Places, TableHandle, Wanted, Worker};

/// What endpoints tell a copy by.
const MARK: &str = "X-Sluice-Mirror: 1\r\n";

/// A copy that waits for the original's body.
#[derive(Debug)]
pub struct Copy {
    mirror: Arc<Mirror>,
    endpoint: Arc<PooledEndpoint>,
    /// With the target, whose limits hold for copies too.
    _places: Places,
    /// What the endpoint belongs to.
    _table: Rc<TableHandle>,
    heads: Heads,
    facts: Facts,
    _place: Place,
}

/// One of the copies that a worker may have on their way.
#[derive(Debug)]
struct Place(Rc<Cell<u32>>);

impl Place {
    fn take(worker: &Worker, most: u32) -> Option<Self> {
        let taken = worker.mirrored.get();
        (taken < most).then(|| {
            worker.mirrored.set(taken + 1);
            Self(worker.mirrored.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Says of a head that it is a copy's.
pub fn mark(heads: &mut Heads) {
    if heads.http1.ends_with(b"\r\n") {
        let before_empty_line = heads.http1.len() - b"\r\n".len();
        heads.http1.splice(before_empty_line..before_empty_line, MARK.bytes());
    }
    if let Some(head) = &mut heads.http2 {
        head.headers_mut().insert("x-sluice-mirror", HeaderValue::from_static("1"));
    }
}

impl Copy {
    /// A copy for an endpoint of `to`, chosen by `key` where that hashes, with the heads that `write` writes for it. `None` where the request is none
    /// that is copied, where nobody may take it, or where too many are on their way.
    pub fn begin<W>(
        client: &Client<W>,
        mirror: &Arc<Mirror>,
        (to, key): (&CompiledApp, Option<u64>),
        table: &Rc<TableHandle>,
        facts: &Facts,
        write: impl FnOnce(&CompiledApp) -> Heads,
    ) -> Option<Box<Self>> {
        // Tunnels cannot be had twice, and who waits for a 100 sends its body only once it came.
        if facts.upgrade.is_some() || facts.expects_continue || facts.method == Method::Connect {
            return None;
        }
        let worker = &client.worker;
        let cells = mirror.metrics.cells(worker.index);
        let is_long = matches!(facts.framing, Framing::Length(length) if length > u64::from(mirror.settings.max_body_bytes));
        let place = if is_long { None } else { Place::take(worker, mirror.settings.max_in_flight) };
        let Some(place) = place else {
            cells.skipped.increment();
            return None;
        };
        let Admitted { endpoint, places } = match enter(worker, &mirror.settings.to, (to, key)) {
            Entry::Admitted(admitted) => admitted,
            // Nobody waits in a copy's name.
            Entry::Wait(_) => {
                cells.skipped.increment();
                return None;
            }
            Entry::Refused(_) => {
                cells.failed.increment();
                return None;
            }
        };
        let heads = write(to);
        let Facts { method, version, framing, is_grpc, patience, id, .. } = *facts;
        let facts = Facts {
            method,
            version,
            framing,
            keep_alive: true,
            is_grpc,
            patience,
            ..Facts::unknown(Instant::now(), id, 0)
        };
        Some(Box::new(Self {
            mirror: mirror.clone(),
            endpoint,
            _places: places,
            _table: table.clone(),
            heads,
            facts,
            _place: place,
        }))
    }

    /// Keeps the original's body on its way.
    pub fn tee(&self) -> Option<Tee> {
        self.facts.has_body().then(|| Tee::new(self.mirror.settings.max_body_bytes as usize))
    }

    /// Whether there is a body to wait for.
    pub fn needs_body(&self) -> bool {
        self.facts.has_body()
    }

    /// Sends it on its way. `body`: the original's; `None` where that did not come to its end, or was too
    /// long.
    pub fn send(self, worker: &Rc<Worker>, origin: &Rc<Origin>, body: Option<Bytes>) {
        let Some(body) = body else {
            return self.mirror.metrics.cells(worker.index).skipped.increment();
        };
        let (worker, origin) = (worker.clone(), origin.clone());
        spawn_local(async move {
            let deadline = origin.listener.ending.deadline().await;
            let Self { mirror, endpoint, _places, _table, heads, facts, _place } = self;
            let index = worker.index;
            if let Some(whole) = facts.patience.request {
                deadline.limit(whole);
            }
            let mut client = Client { worker, origin, deadline, wire: Discard { body } };
            let mut attempt = Attempt::new(&mut client, &facts, endpoint, 0, heads, None);
            let is_answered = match attempt.ask().await {
                Ok(answered) => {
                    attempt.answer(answered).await;
                    true
                }
                Err(_) => false,
            };
            let is_whole = attempt.into_outcome().failure.is_none();
            let cells = mirror.metrics.cells(index);
            let counter = if is_answered && is_whole { &cells.answered } else { &cells.failed };
            counter.increment();
        });
    }
}

/// Whom a copy for `to` goes to, if there is room.
fn enter(worker: &Worker, target: &MirrorTarget, (to, key): (&CompiledApp, Option<u64>)) -> Entry {
    if matches!(to.upstream, Upstream::Unknown) {
        return Entry::Refused(Reason::UpstreamTlsUnknown);
    }
    let spread = match target {
        MirrorTarget::Version(_) => to.mirror.as_deref(),
        MirrorTarget::App(_) => Some(&*to.http),
    };
    let Some(spread) = spread else { return Entry::Refused(Reason::NoEndpoint) };
    let turn = spread.next_turn(&to.live.mirror_cursor);
    worker.enter(Wanted { app: to, spread, turn, key, home: None })
}

/// A client that has said all that it says, and does not listen.
#[derive(Debug)]
struct Discard {
    body: Bytes,
}

impl Wire for Discard {
    const READ: usize = FRAMED_READ;

    fn source(&mut self) -> Source<'_> {
        Source::Memory(&mut self.body)
    }

    fn sink(&mut self) -> Sink<'_> {
        Sink::Nowhere
    }

    fn upload(&self, framing: Framing, to: Upward) -> Relay {
        Relay::upward(Decoder::frames(framing), framing, to)
    }

    fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }

    fn respond(
        &mut self,
        reply: &Reply<'_>,
        _keep_alive: bool,
        _facts: &Facts,
        _listener: &HttpListener,
    ) -> Result<Relay, Gone> {
        Ok(Relay::to_bytes(reply.decoder(reply.head.framing), Delimiting::Plain, Vec::new()))
    }

    fn switch(&mut self, _reply: Option<&Reply<'_>>, _facts: &Facts) -> Result<Relay, Gone> {
        Err(Gone)
    }

    async fn interim(_client: &mut Client<Self>, _reply: &Reply<'_>, _facts: &Facts) -> Result<Sent, Gone> {
        Ok(Sent::default())
    }

    async fn answer(
        _client: &mut Client<Self>,
        _answer: Answer,
        _facts: &Facts,
        _keep_alive: bool,
    ) -> Result<Sent, Gone> {
        Ok(Sent::default())
    }

    fn after_last(&self, _has_body: bool, _facts: &Facts) -> After {
        After::Close
    }

    fn decline(&mut self) -> bool {
        false
    }

    fn abort(&mut self, _facts: &Facts, _reason: Reason) {}
}
