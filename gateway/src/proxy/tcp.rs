//! A TCP listener's connection: bytes both ways, each direction ended on its own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::relay::{Decoder, Relay, RelayError};
use super::timeouts;
use super::upstream::dial::connect;
use super::wire::{Sink, Source};
use crate::listener::{Stream, TcpListenerContext};
use crate::message::encode::Delimiting;
use crate::metrics::ServiceMetrics;
use crate::reason::Reason;
use crate::table::CompiledApp;
use crate::worker::{Buffer, Deadline, Worker};

/// As for HTTP: a third refusal is the app's.
const MAX_ATTEMPTS: usize = 3;

/// One direction: what is read here is written there, and the end passed on.
struct Direction {
    relay: Relay,
    carried: Option<Buffer>,
    is_ended: bool,
}

impl Direction {
    fn new() -> Self {
        Self {
            relay: Relay::to_bytes(Decoder::UntilClose, Delimiting::Plain, Vec::new()),
            carried: None,
            is_ended: false,
        }
    }

    /// Ready with an error only; the end of a direction is not the end of the connection.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        worker: &Worker,
    ) -> Result<(), RelayError> {
        if self.is_ended {
            return Ok(());
        }
        let source = Source::Stream { stream: source, carried: &mut self.carried };
        if let Poll::Ready(done) = self.relay.poll(context, source, Sink::Stream(sink), &worker.buffers) {
            done?;
            self.is_ended = true;
            // A FIN is sent without waiting; the other side may go on talking.
            let _ = Pin::new(sink).poll_shutdown(context);
        }
        Ok(())
    }
}

/// Carries one client's connection until both sides are done, one of them fails, or neither has said
/// anything for [`timeouts::TUNNEL`].
pub async fn serve(
    client: TcpStream,
    peer: SocketAddr,
    worker: Rc<Worker>,
    listener: Rc<TcpListenerContext>,
    deadline: Deadline,
) {
    // A tunnel outlives tables: the one that it began with is only used to find an endpoint.
    let Some(app) = worker.table().app(&listener.app).cloned() else {
        tracing::debug!(listener = %listener.name, app = %listener.app, %peer, "no such app: closing");
        return;
    };
    let (upstream, metrics) = match dial(&worker, &listener, &app, &deadline).await {
        Ok(dialled) => dialled,
        Err(reason) => return app.metrics.cells(worker.index).count_tunnel_failure(reason),
    };
    drop(app);
    keep_alive(&client);
    keep_alive(&upstream);
    let (mut client, mut upstream) = (Stream::Plain(client), Stream::Plain(upstream));
    let (mut there, mut back) = (Direction::new(), Direction::new());
    deadline.set(timeouts::TUNNEL);
    let mut progress = 0;
    let passed = deadline.bound(|context| {
        let sent = there.poll(context, &mut client, &mut upstream, &worker);
        let received = back.poll(context, &mut upstream, &mut client, &worker);
        let now = there.relay.sent() + back.relay.sent();
        if now != progress && !listener.ending.is_aborting() {
            progress = now;
            deadline.set(timeouts::TUNNEL);
        }
        match sent.and(received) {
            Err(_) => Poll::Ready(false),
            Ok(()) if there.is_ended && back.is_ended => Poll::Ready(true),
            Ok(()) => Poll::Pending,
        }
    });
    let failure = match passed.await {
        Ok(true) => None,
        Ok(false) => Some(Reason::UpstreamTruncated),
        Err(_) if listener.ending.is_aborting() => Some(Reason::Shutdown),
        Err(_) => Some(Reason::UpstreamTimeout),
    };
    if failure.is_some() {
        // Neither side may take a cut stream for a whole one.
        client.reset_on_close();
        upstream.reset_on_close();
    }
    let cells = metrics.cells(worker.index);
    match failure {
        None => cells.count_tunnel(),
        Some(reason) => cells.count_tunnel_failure(reason),
    }
    cells.received_bytes.add(there.relay.sent());
    cells.sent_bytes.add(back.relay.sent());
    there.relay.release(&worker.buffers);
    back.relay.release(&worker.buffers);
}

/// A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.
async fn dial(
    worker: &Worker,
    listener: &TcpListenerContext,
    app: &CompiledApp,
    deadline: &Deadline,
) -> Result<(TcpStream, Arc<ServiceMetrics>), Reason> {
    let turn = app.tcp.next_turn(&app.live);
    let Some(mut endpoint) = worker.rotations.pick(app, &app.tcp, turn) else {
        return Err(if app.tcp.is_empty() { Reason::NoEndpoint } else { Reason::NoHealthyEndpoint });
    };
    let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
    loop {
        tried.push(endpoint.live.id);
        let cells = endpoint.metrics.cells(worker.index);
        let error = match connect(endpoint.address, deadline).await {
            Ok(stream) => {
                cells.connects.increment();
                return Ok((stream, endpoint.metrics.clone()));
            }
            Err(error) => error,
        };
        cells.connect_failures.increment();
        worker.rotations.suspect(endpoint.live.id);
        let next = if tried.len() < MAX_ATTEMPTS && !listener.ending.is_aborting() {
            worker.rotations.pick_again(app, &app.tcp, turn, &tried)
        } else {
            None
        };
        let timed_out = error.kind() == io::ErrorKind::TimedOut;
        let Some(next) = next else {
            return Err(if timed_out { Reason::ConnectTimeout } else { Reason::ConnectFailed });
        };
        cells.retries.increment();
        endpoint = next;
    }
}

/// A peer that has vanished is noticed in a silence that may last an hour.
fn keep_alive(stream: &TcpStream) {
    // Where it fails the socket is already dead.
    let _ = socket2::SockRef::from(stream).set_keepalive(true);
}
