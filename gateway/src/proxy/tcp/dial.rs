//! A connection to one of the app's endpoints; another one when that fails, since nothing was sent yet.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use topology::RetryCause;

use super::Connection;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::Alpn;
use crate::proxy::retry::Route;
use crate::proxy::upstream::dial::{DialError, dial};
use crate::proxy::upstream::slot;
use crate::proxy::{feedback, hashing};
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint, Upstream};
use crate::worker::{Admitted, EndpointStream, Entry, Places, Ticks, Wanted};

pub struct Dialled {
    pub stream: EndpointStream,
    pub endpoint: Arc<PooledEndpoint>,
    /// To be held as long as the connection lasts.
    pub places: Places,
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
        let mut route = Route::new(
            worker,
            app,
            (&app.tcp, &app.live.split_cursor),
            hashing::client_key(app, client.source.ip()),
        );
        let admitted =
            self.admit(route.wanted()).await.map_err(|reason| NotDialled { reason, retries: 0 })?;
        let mut endpoint = route.begin(admitted);
        let within = app.spec.timeouts.as_ref().and_then(|timeouts| timeouts.connect).map(Ticks::of);
        loop {
            let cells = endpoint.metrics.cells(worker.index);
            let asked = Instant::now();
            let error = match self.connect(&endpoint, client, within).await {
                Ok(stream) => {
                    cells.connects.increment();
                    feedback::observe_dial(worker, app, &endpoint, asked, None);
                    let retries = route.retries();
                    return Ok(Dialled { stream, endpoint, places: route.into_places(), retries });
                }
                Err(error) => error,
            };
            if self.listener.ending.is_aborting() {
                // It was we who gave up.
                return Err(NotDialled { reason: Reason::Shutdown, retries: route.retries() });
            }
            let reason = reason_of(error);
            if !matches!(error, DialError::Full(_)) {
                cells.connect_failures.increment();
                worker.rotations.suspect(endpoint.live.id);
            }
            feedback::observe_dial(worker, app, &endpoint, asked, Some(reason));
            let Some(next) = route.next(RetryCause::ConnectFailed, &endpoint, false) else {
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

    async fn connect(
        &self,
        endpoint: &PooledEndpoint,
        client: Addresses,
        within: Option<Ticks>,
    ) -> Result<EndpointStream, DialError> {
        let slot = slot::wait(self.worker, endpoint, self.deadline).await?;
        Ok(EndpointStream::new(dial(endpoint, client, self.deadline, Alpn::None, within).await?, slot))
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
        self.deadline.set(Ticks::of(waiter.patience()));
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
