//! What is left of HTTP after a switch of protocols or CONNECT: bytes both ways, each direction ended on
//! its own. A tunnel outlives every change of routes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::client::Client;
use super::relay::{Relay, RelayError};
use super::timeouts;
use super::upstream::Upstream;
use super::wire::{Sink, Source, Wire};
use crate::metrics::ServiceCells;
use crate::reason::Reason;
use crate::worker::tunnels::OpenTunnel;
use crate::worker::{Buffer, Ticks, Worker};

/// One direction.
#[derive(Debug)]
struct Direction {
    relay: Relay,
    is_ended: bool,
}

impl Direction {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: Source<'_>,
        mut sink: Sink<'_>,
        worker: &Worker,
    ) -> Result<(), RelayError> {
        if self.is_ended {
            return Ok(());
        }
        let reborrowed = match &mut sink {
            Sink::Stream(stream) => Sink::Stream(stream),
            Sink::Frames { stream, account } => Sink::Frames { stream, account: *account },
            Sink::Nowhere => Sink::Nowhere,
            Sink::Closed => Sink::Closed,
        };
        if let Poll::Ready(done) = self.relay.poll(context, source, reborrowed, worker) {
            done?;
            self.is_ended = true;
            if let Sink::Stream(stream) = sink {
                // A FIN is sent without waiting; the other side may go on talking.
                let _ = Pin::new(stream).poll_shutdown(context);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct Tunnel {
    up: Direction,
    down: Direction,
    upstream: Upstream,
    /// From the endpoint, with the head that agreed to the tunnel.
    received: Option<Buffer>,
}

/// What went through, and why no more.
#[derive(Debug)]
pub struct Passed {
    pub received: u64,
    pub sent: u64,
    /// `None`: both sides said that they were done.
    pub failure: Option<Reason>,
}

impl Tunnel {
    pub fn new(up: Relay, down: Relay, upstream: Upstream, received: Option<Buffer>) -> Self {
        let direction = |relay| Direction { relay, is_ended: false };
        Self { up: direction(up), down: direction(down), upstream, received }
    }

    /// Until both sides are done, one of them fails, neither has said anything for as long as `idle`, or an
    /// operator closes it.
    pub async fn run<W: Wire>(
        mut self,
        client: &mut Client<W>,
        idle: Ticks,
        cells: &ServiceCells,
        open: &OpenTunnel,
    ) -> Passed {
        cells.tunnels_open.add(1);
        // The request is over where the tunnel begins.
        client.deadline.unlimit();
        client.deadline.set(idle);
        let half_idle = idle.min(const { Ticks::of(timeouts::HALF_TUNNEL) });
        let mut progress = 0;
        let failure = poll_fn(|context| {
            let failed = self.poll(context, client);
            let now = self.up.relay.sent() + self.down.relay.sent();
            let Client { origin, deadline, .. } = &*client;
            if now != progress && !origin.is_aborting() {
                progress = now;
                let is_half = self.up.is_ended || self.down.is_ended;
                deadline.set(if is_half { half_idle } else { idle });
            }
            match failed {
                Some(reason) => Poll::Ready(Some(reason)),
                None if self.up.is_ended && self.down.is_ended => Poll::Ready(None),
                None if open.is_closing() => Poll::Ready(Some(Reason::TunnelClosed)),
                None if origin.is_aborting() => Poll::Ready(Some(Reason::Shutdown)),
                None if deadline.has_passed() => Poll::Ready(Some(Reason::TunnelTimeout)),
                None => Poll::Pending,
            }
        })
        .await;
        cells.tunnels_open.add(-1);
        let worker = &client.worker;
        self.up.relay.release(worker);
        self.down.relay.release(worker);
        self.received.take().into_iter().for_each(|buffer| worker.buffers.put(buffer));
        if failure.is_some() {
            self.upstream.reset_on_close();
        }
        Passed { received: self.up.relay.payload, sent: self.down.relay.sent(), failure }
    }

    /// Why the tunnel is over, if it is.
    fn poll<W: Wire>(&mut self, context: &mut Context<'_>, client: &mut Client<W>) -> Option<Reason> {
        let Client { wire, worker, .. } = client;
        let up = self.up.poll(context, wire.source(), self.upstream.sink(), worker);
        let source = self.upstream.source(&mut self.received);
        let down = self.down.poll(context, source, wire.sink(), worker);
        match (up, down) {
            (Ok(()), Ok(())) => None,
            (Err(RelayError::Sink), _) | (_, Err(RelayError::Source | RelayError::Malformed(_))) => {
                Some(Reason::UpstreamTruncated)
            }
            _ => Some(Reason::ClientAbort),
        }
    }
}
