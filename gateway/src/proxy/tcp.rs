//! A TCP listener's connection: bytes both ways, each direction ended on its own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::dial::connect;
use super::relay::{Relay, RelayError};
use super::timeouts;
use crate::listener::TcpListenerContext;
use crate::message::encode::Delimiting;
use crate::message::{Framing, Method};
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
            relay: Relay::new(Framing::UntilClose, Delimiting::Plain, Vec::new()),
            carried: None,
            is_ended: false,
        }
    }

    /// Ready with an error only; the end of a direction is not the end of the connection.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        worker: &Worker,
    ) -> Result<(), RelayError> {
        if self.is_ended {
            return Ok(());
        }
        if let Poll::Ready(done) = self.relay.poll(context, source, sink, &mut self.carried, &worker.buffers)
        {
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
    mut client: TcpStream,
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
    let (mut upstream, metrics) = match dial(&worker, &app, &deadline).await {
        Ok(dialled) => dialled,
        Err(reason) => return app.metrics.cells(worker.index).count_failure(Method::Other, reason),
    };
    drop(app);
    let (mut there, mut back) = (Direction::new(), Direction::new());
    deadline.set(timeouts::TUNNEL);
    let mut progress = 0;
    let passed = deadline.bound(|context| {
        let polled = there
            .poll(context, &mut client, &mut upstream, &worker)
            .and_then(|()| back.poll(context, &mut upstream, &mut client, &worker));
        let now = there.relay.sent() + back.relay.sent();
        if now != progress {
            progress = now;
            deadline.set(timeouts::TUNNEL);
        }
        match polled {
            Err(_) => Poll::Ready(()),
            Ok(()) if there.is_ended && back.is_ended => Poll::Ready(()),
            Ok(()) => Poll::Pending,
        }
    });
    // Whatever ended it, both sockets close next.
    let _ = passed.await;
    let cells = metrics.cells(worker.index);
    cells.received_bytes.add(there.relay.sent());
    cells.sent_bytes.add(back.relay.sent());
    there.relay.release(&worker.buffers);
    back.relay.release(&worker.buffers);
}

/// A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.
async fn dial(
    worker: &Worker,
    app: &CompiledApp,
    deadline: &Deadline,
) -> Result<(TcpStream, Arc<ServiceMetrics>), Reason> {
    let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
    let mut failure = if app.tcp.is_empty() { Reason::NoEndpoint } else { Reason::NoHealthyEndpoint };
    while tried.len() < MAX_ATTEMPTS
        && let Some(endpoint) = worker.rotations.pick(app, &app.tcp, &tried)
    {
        tried.push(endpoint.live.id);
        let cells = endpoint.metrics.cells(worker.index);
        match connect(endpoint.address, deadline).await {
            Ok(stream) => {
                cells.connects.increment();
                return Ok((stream, endpoint.metrics.clone()));
            }
            Err(_) => {
                cells.connect_failures.increment();
                worker.rotations.suspect(endpoint.live.id);
                failure = Reason::ConnectFailed;
            }
        }
    }
    Err(failure)
}
