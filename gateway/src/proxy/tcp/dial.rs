//! A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use topology::RetryCause;

use super::Connection;
use crate::listener::Stream;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::Alpn;
use crate::proxy::feedback;
use crate::proxy::retry::Route;
use crate::proxy::upstream::dial::{DialError, dial};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Upstream};
use crate::worker::Ticks;

pub struct Dialled {
    pub stream: Stream,
    pub endpoint: Arc<PooledEndpoint>,
    pub retries: u32,
}

pub struct NotDialled {
    pub reason: Reason,
    pub retries: u32,
}

impl Connection<'_> {
    pub async fn dial(&self, app: &CompiledApp, client: Addresses) -> Result<Dialled, NotDialled> {
        let worker = self.worker;
        if matches!(app.upstream, Upstream::Unknown) {
            return Err(NotDialled { reason: Reason::UpstreamTlsUnknown, retries: 0 });
        }
        let mut route = Route::new(worker, app, &app.tcp);
        let Some(mut endpoint) = route.first() else {
            let reason = if app.tcp.is_empty() { Reason::NoEndpoint } else { Reason::NoHealthyEndpoint };
            return Err(NotDialled { reason, retries: 0 });
        };
        let within = app.spec.timeouts.as_ref().and_then(|timeouts| timeouts.connect).map(Ticks::of);
        loop {
            let cells = endpoint.metrics.cells(worker.index);
            let error = match dial(&endpoint, client, self.deadline, Alpn::None, within).await {
                Ok(stream) => {
                    cells.connects.increment();
                    feedback::observe_dial(worker, app, &endpoint, None);
                    return Ok(Dialled { stream, endpoint, retries: route.retries() });
                }
                Err(error) => error,
            };
            cells.connect_failures.increment();
            worker.rotations.suspect(endpoint.live.id);
            let reason = reason_of(error);
            feedback::observe_dial(worker, app, &endpoint, Some(reason));
            let next = match self.listener.ending.is_aborting() {
                true => None,
                false => route.next(RetryCause::ConnectFailed, &endpoint, false),
            };
            let Some(next) = next else {
                return Err(NotDialled { reason, retries: route.retries() });
            };
            if let Some(time) = route.backoff() {
                let mut waiting = pin!(tokio::time::sleep(time));
                self.deadline.clear();
                // Passes only when what is left is cut, which the next attempt finds out.
                let _ = self.deadline.bound(|context| waiting.as_mut().poll(context)).await;
            }
            endpoint = next;
        }
    }
}

fn reason_of(error: DialError) -> Reason {
    match error {
        DialError::TimedOut => Reason::ConnectTimeout,
        DialError::Tls => Reason::UpstreamTlsFailed,
        DialError::OutOfSockets => Reason::OutOfSockets,
        DialError::Failed => Reason::ConnectFailed,
    }
}
