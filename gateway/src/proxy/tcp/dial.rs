//! A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Connection;
use crate::listener::Stream;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::Alpn;
use crate::proxy::feedback;
use crate::proxy::upstream::dial::{DialError, dial};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Upstream};

/// As for HTTP: a third refusal is the app's.
const MAX_ATTEMPTS: usize = 3;

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
        let turn = app.tcp.next_turn(&app.live.split_cursor);
        let Some(mut endpoint) = worker.rotations.pick(app, &app.tcp, turn) else {
            let reason = if app.tcp.is_empty() { Reason::NoEndpoint } else { Reason::NoHealthyEndpoint };
            return Err(NotDialled { reason, retries: 0 });
        };
        let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
        let mut retries = 0;
        loop {
            tried.push(endpoint.live.id);
            let cells = endpoint.metrics.cells(worker.index);
            let error = match dial(&endpoint, client, self.deadline, Alpn::None).await {
                Ok(stream) => {
                    cells.connects.increment();
                    feedback::observe_dial(worker, app, &endpoint, None);
                    return Ok(Dialled { stream, endpoint, retries });
                }
                Err(error) => error,
            };
            cells.connect_failures.increment();
            worker.rotations.suspect(endpoint.live.id);
            let reason = reason_of(error);
            feedback::observe_dial(worker, app, &endpoint, Some(reason));
            let next = if tried.len() < MAX_ATTEMPTS && !self.listener.ending.is_aborting() {
                worker.rotations.pick_again(app, &app.tcp, turn, &tried)
            } else {
                None
            };
            let Some(next) = next else {
                return Err(NotDialled { reason, retries });
            };
            cells.retries.increment();
            retries += 1;
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
