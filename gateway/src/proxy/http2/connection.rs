//! One HTTP/2 connection: its streams come in, and it ends when they have.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use tokio::task::spawn_local;

use super::super::client::{Client, Origin};
use super::super::facts::After;
use super::super::http1::Http1;
use super::super::prepare::prepare_http2;
use super::super::{exchange, refuse, timeouts};
use super::Http2;
use super::meter::{Account, Metered};
use crate::listener::{Limits, Stream};
use crate::worker::{Deadline, IDLE_TICKS, Step, Worker};

/// Requests of one connection at a time. nginx has 128, HAProxy 100; RFC 9113 section 6.5.2 asks for
/// 100 at least.
const MAX_STREAMS: u32 = 128;
/// What a client may send of one body before it was passed on.
const STREAM_WINDOW: u32 = 256 << 10;
/// For all bodies of a connection, and so what a client can make us hold.
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What h2 holds of a response before we are told to wait: two frames.
const SEND_BUFFER: usize = 32 << 10;
/// What is read of a body that nobody wants: a form's worth.
const HEARD_OUT: usize = 64 << 10;
/// Streams that the client reset before we looked at them (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that h2 had to reset because the client broke a rule (CVE-2025-8671). Honest clients do not.
const MAX_ERROR_RESETS: usize = 64;
/// Reset streams whose late frames are still recognised.
const MAX_REMEMBERED_RESETS: usize = 32;

type Connection = h2::server::Connection<Metered<Stream>, Bytes>;

/// Goes on with a connection that began with HTTP/2's preface where a request was expected.
pub async fn take_over(mut client: Client<Http1>) {
    let received = client.wire.received.as_ref().map_or(&[][..], |buffer| buffer.filled());
    let before = Bytes::copy_from_slice(received);
    client.release();
    let Client { worker, origin, deadline, wire } = client;
    Box::pin(serve(wire.stream, before, worker, origin, deadline)).await;
}

/// Serves a client that speaks HTTP/2 until one side closes; `before` is what it has sent.
pub async fn serve(
    stream: Stream,
    before: Bytes,
    worker: Rc<Worker>,
    origin: Rc<Origin>,
    deadline: Deadline,
) {
    let account = Rc::new(Account::opened(worker.deadlines.now()));
    let metered = Metered::new(stream, before, account.clone());
    let limits = origin.listener.limits.clone();
    deadline.set(limits.header_timeout);
    let mut opening = Box::pin(builder(&limits).handshake(metered));
    let opened = deadline.bound(|context| opening.as_mut().poll(context)).await;
    let connection = match opened {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return judge(&error, &worker, &origin),
        Err(_) => return,
    };
    drop(opening);
    deadline.clear();
    let streams = Rc::new(Cell::new(0));
    let mut session = Session {
        connection,
        account,
        streams,
        worker,
        origin,
        deadline,
        requests_left: limits.max_requests,
        seen_penalties: None,
        idle_since: 0,
        is_going_away: false,
        carried: Carried::Requests,
        written_before: 0,
    };
    poll_fn(|context| session.poll(context)).await;
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(limits.head.bytes as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(timeouts::RESET_MEMORY)
        .enable_connect_protocol();
    builder
}

/// What a connection is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// Some are under way.
    Requests,
    /// All are answered, and the client has not taken all of it.
    Rest,
    Nothing,
}

struct Session {
    connection: Connection,
    account: Rc<Account>,
    /// Requests under way.
    streams: Rc<Cell<usize>>,
    worker: Rc<Worker>,
    origin: Rc<Origin>,
    deadline: Deadline,
    requests_left: u64,
    /// How many there had been when it was last asked whether one is this client's.
    seen_penalties: Option<u32>,
    /// In ticks; of one that carries nothing.
    idle_since: u32,
    is_going_away: bool,
    /// When that was last looked at.
    carried: Carried,
    /// Bytes that the client had taken when its time for the rest began.
    written_before: u64,
}

impl Session {
    /// Ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.look_at_penalties();
        loop {
            if !self.account.is_covered(self.worker.deadlines.now()) {
                return self.cut_off(context);
            }
            if self.origin.is_draining() && !self.is_going_away {
                self.go_away();
            }
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.start(request, respond);
                    self.count_request();
                }
                Poll::Ready(Some(Err(error))) => {
                    judge(&error, &self.worker, &self.origin);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.watch();
        if self.is_idle_under_load() && self.worker.gives_up(Step::Idle) {
            self.go_away();
            context.waker().wake_by_ref();
        }
        if self.origin.is_aborting() {
            return Poll::Ready(());
        }
        if self.deadline.has_passed() { self.end_wait(context) } else { Poll::Pending }
    }

    /// What was waited for did not come in time.
    fn end_wait(&mut self, context: &Context<'_>) -> Poll<()> {
        match self.carried {
            Carried::Rest if self.takes_the_rest() => {
                self.await_the_rest();
                return Poll::Pending;
            }
            Carried::Rest => return Poll::Ready(()),
            _ if self.is_going_away => return Poll::Ready(()),
            _ => {}
        }
        self.origin.listener.cells.idled_out.increment();
        self.go_away();
        // So that the frame is written.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// While an address is out, what it has open already has less to spend. It goes on as long as it behaves: others
    /// may have the same address.
    fn look_at_penalties(&mut self) {
        let penalties = &self.worker.shared.penalties;
        let count = penalties.count();
        if self.origin.is_trusted || self.seen_penalties.replace(count) == Some(count) {
            return;
        }
        let now = self.worker.deadlines.now();
        if let Some(until) = penalties.out_until(self.origin.peer.ip().into(), now) {
            self.account.restrict(until);
        }
    }

    /// What comes after the last one that a connection may have is on its way already and still served.
    fn count_request(&mut self) {
        self.requests_left = self.requests_left.saturating_sub(1);
        if self.requests_left == 0 && !self.is_going_away {
            self.origin.listener.cells.used_up.increment();
            self.go_away();
        }
    }

    /// RFC 9113 section 6.8: what is under way ends, nothing new begins.
    fn go_away(&mut self) {
        self.is_going_away = true;
        self.connection.graceful_shutdown();
        if self.carried == Carried::Nothing {
            self.deadline.set(timeouts::LINGER);
        }
    }

    /// A client that only makes us work is told so, and is gone.
    fn cut_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        strike(&self.worker, &self.origin);
        self.connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        // One try to write it; whoever floods us need not get it.
        let _ = self.connection.poll_closed(context);
        Poll::Ready(())
    }

    /// A connection without requests may wait as long as one of HTTP/1.1; one whose client has yet to take the end of
    /// an answer, as long as for any other piece of it.
    fn watch(&mut self) {
        let carried = match () {
            () if self.streams.get() > 0 => Carried::Requests,
            // What h2 holds of an answer that is given: until that is written its stream is not over.
            () if self.connection.has_streams() => Carried::Rest,
            () => Carried::Nothing,
        };
        if carried == self.carried {
            return;
        }
        self.carried = carried;
        self.idle_since = self.worker.deadlines.now();
        match carried {
            Carried::Requests => self.deadline.clear(),
            Carried::Rest => self.await_the_rest(),
            Carried::Nothing if self.is_going_away => self.deadline.set(timeouts::LINGER),
            Carried::Nothing => self.deadline.set(self.origin.listener.limits.keepalive_timeout),
        }
    }

    fn await_the_rest(&mut self) {
        self.written_before = self.account.written();
        self.deadline.set(timeouts::BODY);
    }

    /// Whether the client was fast enough since it was last waited for: as it has to be while its answer comes.
    fn takes_the_rest(&self) -> bool {
        let quota = u64::from(self.origin.listener.limits.min_body_rate) * timeouts::BODY.as_secs();
        self.account.written() - self.written_before >= quota.max(1)
    }

    /// Whether its socket is worth more to others.
    fn is_idle_under_load(&self) -> bool {
        let waited = self.worker.deadlines.now() - self.idle_since;
        !self.is_going_away
            && self.carried == Carried::Nothing
            && waited >= IDLE_TICKS
            && self.worker.sheds(Step::Idle)
    }

    fn start(&self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let started = Instant::now();
        self.streams.set(self.streams.get() + 1);
        let under_way = UnderWay { streams: self.streams.clone(), account: self.account.clone() };
        let (worker, origin) = (self.worker.clone(), self.origin.clone());
        let (head, body) = request.into_parts();
        let wire = Http2 { body, respond, send: None, account: self.account.clone() };
        spawn_local(async move {
            let deadline = origin.listener.ending.deadline().await;
            let mut client = Client { worker, origin, deadline, wire };
            let has_body = !client.wire.body.is_end_stream();
            let prepared = prepare_http2(&client, &head, has_body, started);
            drop(head);
            let after = match prepared {
                Ok(request) => exchange::run(&mut client, request).await,
                // RFC 9113 section 8.1.1: a malformed request is a stream error; answering it first is allowed.
                Err(refusal) => Box::pin(refuse::refuse(&mut client, *refusal)).await,
            };
            if after == After::Abort {
                return;
            }
            under_way.account.answered();
            if !client.wire.body.is_end_stream() {
                Box::pin(hear_out(&mut client)).await;
            }
        });
    }
}

/// Counts a flood, and keeps its address out for a while.
fn strike(worker: &Worker, origin: &Origin) {
    let Origin { peer, listener, is_trusted, .. } = origin;
    worker.metrics.http2_floods.increment();
    if !is_trusted {
        // A proxy that we trust has other clients too.
        worker.shared.penalties.strike(peer.ip().into(), worker.deadlines.now());
    }
    tracing::debug!(%peer, listener = %listener.name, "HTTP/2 flood: cut off");
}

/// What follows for the client when h2 has ended its connection.
fn judge(error: &h2::Error, worker: &Worker, origin: &Origin) {
    let is_no_http2 = error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
    let is_ours = error.is_go_away() && error.is_library();
    if is_ours && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        // h2 has limits of its own, and cuts off by itself.
        return strike(worker, origin);
    }
    let Origin { peer, listener, is_trusted, .. } = origin;
    let now = worker.deadlines.now();
    if (is_ours || is_no_http2) && !is_trusted && worker.shared.penalties.count_broken(peer.ip().into(), now)
    {
        worker.metrics.http2_floods.increment();
        tracing::debug!(%peer, listener = %listener.name, "too many broken HTTP/2 connections: kept out");
    }
}

/// Reads and forgets what is left of a short body whose request was answered before it had come. A stream that is let
/// go before is reset, and clients (curl among them) take the reset for a failure, whatever its code
/// (RFC 9113 section 8.1).
async fn hear_out(client: &mut Client<Http2>) {
    let Client { wire, deadline, .. } = client;
    deadline.set(timeouts::LINGER);
    let mut heard = 0;
    let hearing = deadline.bound(|context| {
        while let Some(Ok(data)) = ready!(wire.body.poll_data(context)) {
            heard += data.len();
            let released = wire.body.flow_control().release_capacity(data.len());
            if heard > HEARD_OUT || released.is_err() {
                break;
            }
        }
        Poll::Ready(())
    });
    // Whoever sends for longer is reset.
    let _ = hearing.await;
}

/// A stream that is counted until it is dropped.
struct UnderWay {
    streams: Rc<Cell<usize>>,
    account: Rc<Account>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
    }
}
