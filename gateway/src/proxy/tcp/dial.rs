//! A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Connection;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::Alpn;
use crate::proxy::feedback;
use crate::proxy::upstream::dial::{DialError, dial};
use crate::proxy::upstream::slot;
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Upstream};
use crate::worker::{Admitted, EndpointStream, Entry, Wanted};

/// As for HTTP: a third refusal is the app's.
const MAX_ATTEMPTS: usize = 3;

pub struct Dialled {
    pub stream: EndpointStream,
    pub endpoint: Arc<PooledEndpoint>,
    /// To be held as long as the connection lasts.
    pub admitted: Admitted,
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
        let turn = app.tcp.next_turn(&app.live);
        let wanted = Wanted { app, spread: &app.tcp, turn };
        let mut admitted = self.admit(wanted).await.map_err(|reason| NotDialled { reason, retries: 0 })?;
        let mut tried = SmallVec::<[u64; MAX_ATTEMPTS]>::new();
        let mut retries = 0;
        loop {
            let endpoint = admitted.endpoint.clone();
            tried.push(endpoint.live.id);
            let cells = endpoint.metrics.cells(worker.index);
            let error = match self.connect(&endpoint, client).await {
                Ok(stream) => {
                    cells.connects.increment();
                    feedback::observe_dial(worker, app, &endpoint, None);
                    return Ok(Dialled { stream, endpoint, admitted, retries });
                }
                Err(error) => error,
            };
            let reason = reason_of(error);
            if !matches!(error, DialError::Full(_)) {
                cells.connect_failures.increment();
                worker.rotations.suspect(endpoint.live.id);
            }
            feedback::observe_dial(worker, app, &endpoint, Some(reason));
            let may_go_on = tried.len() < MAX_ATTEMPTS && !self.listener.ending.is_aborting();
            if !may_go_on || !worker.move_on(wanted, &tried, &mut admitted) {
                return Err(NotDialled { reason, retries });
            }
            cells.retries.increment();
            retries += 1;
        }
    }

    async fn connect(
        &self,
        endpoint: &PooledEndpoint,
        client: Addresses,
    ) -> Result<EndpointStream, DialError> {
        let slot = slot::wait(self.worker, endpoint, self.deadline).await?;
        Ok(EndpointStream::new(dial(endpoint, client, self.deadline, Alpn::None).await?, slot))
    }

    /// As for a request, see [`crate::proxy::admission`]. A client that goes meanwhile is noticed afterwards:
    /// its connection is read by nobody yet.
    async fn admit(&self, wanted: Wanted<'_>) -> Result<Admitted, Reason> {
        let mut waiter = match self.worker.enter(wanted) {
            Entry::Admitted(admitted) => return Ok(admitted),
            Entry::Refused(_) if wanted.spread.is_empty() => return Err(Reason::NoEndpoint),
            Entry::Refused(reason) => return Err(reason),
            Entry::Wait(waiter) => waiter,
        };
        self.deadline.set(waiter.patience());
        match self.deadline.bound(|context| waiter.poll(context, self.worker, wanted)).await {
            Ok(entered) => entered,
            Err(_) if self.listener.ending.is_aborting() => Err(Reason::Shutdown),
            Err(_) => Err(Reason::QueueTimeout),
        }
    }
}

fn reason_of(error: DialError) -> Reason {
    match error {
        DialError::TimedOut => Reason::ConnectTimeout,
        DialError::Tls => Reason::UpstreamTlsFailed,
        DialError::OutOfSockets => Reason::OutOfSockets,
        DialError::Full(reason) => reason,
        DialError::Failed => Reason::ConnectFailed,
    }
}
