//! One endpoint is asked: connect or reuse, send, wait for the head, pass the body on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use topology::{Protocol, RetryCause};

use bytes::Bytes;

use super::client::Client;
use super::facts::{After, Facts, Heads, Outcome};
use super::pace::{DOWNLOAD_WINDOW, Pace, UPLOAD_WINDOW};
use super::patience::Patience;
use super::relay::{Relay, RelayError};
use super::tee::Tee;
use super::timeouts;
use super::tunnel::Tunnel;
use super::upstream::{Lost, OpenError, Upstream};
use super::wire::{Reply, Upward, Wire};
use crate::filter::compression::{Plan, Wanted};
use crate::message::encode;
use crate::message::response::ResponseHead;
use crate::message::scan::HeadScan;
use crate::message::{Framing, Method, ResponseEdits};
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::tunnels::{Begun, Kind};
use crate::worker::{Buffer, STALLED_TICKS, Step, Ticks};

/// Interim responses to one request. 103 and 102 come a few times; a flood of them is an attack.
const MAX_INTERIM: u32 = 16;

/// For a client to take what it is sent.
const TO_CLIENT: Ticks = Ticks::of(timeouts::BODY);
const GATHERING: Ticks = Ticks::of(timeouts::GATHERING);

/// Why an attempt ended before any of its response reached the client.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    /// What the request may be sent again for; `None` where that could do twice what it asks for, or where
    /// no other endpoint would do better.
    pub cause: Option<RetryCause>,
    /// Whether the endpoint has said that it did nothing, which the client may be told.
    pub is_untouched: bool,
}

impl Failure {
    /// That no other endpoint would mend.
    fn ours(reason: Reason) -> Self {
        Self { reason, cause: None, is_untouched: false }
    }
}

/// A response that has begun.
#[derive(Debug)]
pub struct Answered {
    upstream: Upstream,
    /// Its head, and how long that is; `None`: the endpoint was only connected to.
    head: Option<(Box<ResponseHead>, usize)>,
    /// Whether the endpoint has left HTTP as it was asked to.
    has_switched: bool,
}

impl Answered {
    /// Whether the endpoint has not said that it failed.
    pub fn is_usable(&self) -> bool {
        self.head.as_ref().is_none_or(|(head, _)| head.status < 500)
    }
}

#[derive(Debug)]
pub struct Attempt<'a, W> {
    pub client: &'a mut Client<W>,
    pub facts: &'a Facts,
    heads: Heads,
    upload: Relay,
    /// The endpoint or the client broke the upload off; a response may still come.
    upload_failure: Option<Reason>,
    /// Of the response: a head and what came with it.
    received: Option<Buffer>,
    interims: u32,
    /// Told when the endpoint has sent an interim response, where somebody wants to know.
    pub heard: Option<Rc<Cell<bool>>>,
    /// Of the request's body.
    pace: Pace,
    /// Whether it would be noticed that the client goes while nothing is read from it.
    watches_client: bool,
    outcome: Outcome,
}

impl<'a, W: Wire> Attempt<'a, W> {
    pub fn new(
        client: &'a mut Client<W>,
        facts: &'a Facts,
        endpoint: Arc<PooledEndpoint>,
        retries: u32,
        mut heads: Heads,
        tee: Option<Tee>,
    ) -> Self {
        let upward = if endpoint.protocol == Protocol::Http2 {
            Upward::Http2
        } else {
            Upward::Http1 { head: std::mem::take(&mut heads.http1) }
        };
        let upload = client.wire.upload(facts.framing, upward).limited_to(facts.body.max).teed(tee);
        let strips = facts.filtered.as_ref().is_some_and(|filtered| filtered.strips_requests());
        // Whether there is a body decides: a head alone is sent by us.
        let rate = if facts.has_body() { facts.body.min_rate } else { 0 };
        Self {
            upload: if strips { upload.without_trailers() } else { upload },
            pace: Pace::of(rate, UPLOAD_WINDOW, client.worker.deadlines.now()),
            client,
            facts,
            heads,
            upload_failure: None,
            received: None,
            interims: 0,
            heard: None,
            watches_client: true,
            outcome: Outcome::of(endpoint, retries),
        }
    }

    /// The request's whole body, where it was to be kept and was not too long.
    pub fn take_teed(&mut self) -> Option<Bytes> {
        if self.upload.is_done() { self.upload.take_teed() } else { None }
    }

    /// What has come of it so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The outcome so far.
    pub fn into_outcome(self) -> Outcome {
        self.into_parts().1
    }

    /// The request's heads, for another attempt, and the outcome.
    pub fn into_parts(mut self) -> (Heads, Outcome) {
        let worker = &self.client.worker;
        self.upload.release(worker);
        let buffers = &worker.buffers;
        self.received.take().into_iter().for_each(|buffer| buffers.put(buffer));
        self.outcome.received_bytes += self.facts.head_bytes as u64 + self.upload.payload;
        let http1 = self.upload.into_head();
        if !http1.is_empty() {
            self.heads.http1 = http1;
        }
        (self.heads, self.outcome)
    }

    /// Until a final response begins.
    ///
    /// # Errors
    /// [`Failure`]; nothing of a final response has reached the client.
    pub async fn ask(&mut self) -> Result<Answered, Failure> {
        let mut upstream = self.open().await?;
        if self.facts.method == Method::Connect {
            return Ok(Answered { upstream, head: None, has_switched: true });
        }
        let (response, length) = match self.await_response(&mut upstream).await {
            Ok(found) => found,
            Err(lost) => return Err(self.failure(lost)),
        };
        let has_switched = self.has_switched(&upstream, &response, length)?;
        self.outcome.responded = Some(Instant::now());
        self.outcome.status = response.status;
        Ok(Answered { upstream, head: Some((response, length)), has_switched })
    }

    /// After a failure that is left to somebody else to mend: until the client has gone, if that can be noticed.
    /// There is no body that it could be sending.
    pub async fn abandoned(&mut self) -> Failure {
        // Nobody is waited for here but the client, who has nothing to do.
        self.client.deadline.clear();
        poll_fn(|context| {
            if self.watches_client {
                match self.client.wire.poll_gone(context) {
                    Poll::Ready(true) => return Poll::Ready(Failure::ours(Reason::ClientAbort)),
                    Poll::Ready(false) => self.watches_client = false,
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Passes on what was answered.
    pub async fn answer(&mut self, answered: Answered) -> After {
        let Answered { upstream, head, has_switched } = answered;
        match &head {
            Some((head, length)) if !has_switched => self.respond(upstream, head, *length).await,
            head => {
                let head = head.as_ref().map(|(head, length)| (&**head, *length));
                Box::pin(self.tunnel(upstream, head)).await
            }
        }
    }

    /// What the request may be sent again for, after this.
    pub fn cause(&self, asked: &Result<Answered, Failure>) -> Option<RetryCause> {
        match asked {
            Err(failure) => failure.cause,
            Ok(_) => RetryCause::of_status(self.outcome.status)
                .filter(|_| self.facts.method.is_idempotent() && self.is_whole()),
        }
    }

    /// Lets a response go, since another endpoint is asked for a better one. Its connection is kept where
    /// nothing of it is left to be read.
    pub fn discard(&mut self, answered: Answered) {
        let Some((head, length)) = answered.head else { return };
        let buffer = self.received.take();
        let arrived = buffer.as_ref().map_or(0, |buffer| (buffer.filled().len() - length) as u64);
        buffer.into_iter().for_each(|buffer| self.client.worker.buffers.put(buffer));
        let is_read = match head.framing {
            Framing::None => arrived == 0,
            Framing::Length(whole) => arrived == whole,
            Framing::Chunked | Framing::UntilClose => false,
        };
        if is_read && head.keep_alive && self.upload.is_done() {
            let kept = self.facts.patience.kept;
            answered.upstream.keep(&self.client.worker, &self.outcome.endpoint, kept);
        }
    }

    /// Goes on with what another attempt at the same request came to.
    pub fn take_over<V>(&mut self, other: &mut Attempt<'_, V>) {
        use std::mem::swap;
        swap(&mut self.heads, &mut other.heads);
        swap(&mut self.upload, &mut other.upload);
        swap(&mut self.upload_failure, &mut other.upload_failure);
        swap(&mut self.received, &mut other.received);
        swap(&mut self.outcome, &mut other.outcome);
        // The client has waited since then.
        self.outcome.attempted = other.outcome.attempted;
    }

    /// Whether the endpoint has left HTTP as it was asked to.
    fn has_switched(
        &self,
        upstream: &Upstream,
        response: &ResponseHead,
        length: usize,
    ) -> Result<bool, Failure> {
        let Some(protocol) = &self.facts.upgrade else { return Ok(false) };
        let head = self.received.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..length]);
        let has_switched = upstream.has_switched(response, head, protocol);
        if response.status == 101 && !has_switched {
            return Err(self.failure(Reason::UpstreamBadResponse.into()));
        }
        Ok(has_switched)
    }

    async fn open(&mut self) -> Result<Upstream, Failure> {
        let worker = self.client.worker.clone();
        let endpoint = self.outcome.endpoint.clone();
        let cells = endpoint.metrics.cells(worker.index);
        // A second attempt after a reset wants a connection that nobody has had time to close.
        let may_reuse = self.outcome.retries == 0 && self.facts.method != Method::Connect;
        let Client { origin, deadline, .. } = &*self.client;
        let opened =
            Upstream::open(&worker, &endpoint, origin, deadline, &mut self.heads, self.facts, may_reuse);
        match opened.await {
            Ok((upstream, is_reused)) => {
                self.outcome.is_reused = is_reused;
                let counter = if is_reused { &cells.reuses } else { &cells.connects };
                counter.increment();
                Ok(upstream)
            }
            Err(OpenError::OutOfSockets) => {
                worker.upstreams.clear();
                worker.http2_upstreams.clear();
                if let Some(relief) = worker.shared.relief.get() {
                    relief.give_up_kept();
                }
                Err(Failure::ours(Reason::OutOfSockets))
            }
            Err(OpenError::Refused(Reason::AppOverloaded | Reason::TenantOverloaded))
                if self.client.is_aborting() =>
            {
                Err(Failure::ours(Reason::Shutdown))
            }
            Err(OpenError::Refused(Reason::AppOverloaded | Reason::TenantOverloaded))
                if self.client.deadline.is_over() =>
            {
                Err(Failure::ours(Reason::RequestTimeout))
            }
            Err(OpenError::Refused(reason)) => Err(Failure::ours(reason)),
            Err(error) => {
                cells.connect_failures.increment();
                let reason = match error {
                    _ if self.client.is_aborting() => return Err(Failure::ours(Reason::Shutdown)),
                    _ if self.client.deadline.is_over() => {
                        return Err(Failure::ours(Reason::RequestTimeout));
                    }
                    OpenError::TimedOut => Reason::ConnectTimeout,
                    OpenError::Tls => Reason::UpstreamTlsFailed,
                    _ => Reason::ConnectFailed,
                };
                // Not a byte was sent, so any method may go elsewhere.
                Err(Failure { reason, cause: Some(RetryCause::ConnectFailed), is_untouched: false })
            }
        }
    }

    fn failure(&self, lost: Lost) -> Failure {
        // An HTTP/2 head is sent out of our sight, so nobody can say that it was not.
        let is_unsent = self.outcome.endpoint.protocol != Protocol::Http2 && self.upload.sent() == 0;
        // RFC 9110 section 9.2.2: what is idempotent, or was never sent.
        let is_safe = self.facts.method.is_idempotent() || is_unsent || lost.is_untouched;
        let cause = match lost.reason {
            Reason::UpstreamReset => Some(RetryCause::Reset),
            Reason::UpstreamTimeout => Some(RetryCause::Timeout),
            _ => None,
        };
        Failure {
            reason: lost.reason,
            cause: cause.filter(|_| is_safe && self.is_whole()),
            is_untouched: lost.is_untouched,
        }
    }

    /// Whether the whole request can be sent again: a body that was begun is gone. An endpoint that has begun to
    /// answer was there; and a switch of protocols may have been begun.
    fn is_whole(&self) -> bool {
        !self.facts.has_body() && self.interims == 0 && self.facts.upgrade.is_none()
    }

    /// Sends the request, and its body as it comes, until a final response's head has arrived; interim
    /// ones are passed on.
    async fn await_response(&mut self, upstream: &mut Upstream) -> Result<(Box<ResponseHead>, usize), Lost> {
        loop {
            self.client.deadline.set(self.patience());
            let mut scan = HeadScan::default();
            let (response, length) = poll_fn(|context| match self.poll_head(context, upstream, &mut scan) {
                Poll::Pending if self.client.deadline.has_passed() => {
                    Poll::Ready(Err(self.timed_out().into()))
                }
                polled => polled,
            })
            .await?;
            // 101 answers an Upgrade field (RFC 9110 section 15.2.2).
            let switches = response.status == 101;
            if !response.is_interim() || switches && self.facts.upgrade.is_some() {
                return Ok((response, length));
            }
            self.interims += 1;
            self.heard.iter().for_each(|heard| heard.set(true));
            if switches || self.interims > MAX_INTERIM {
                return Err(Reason::UpstreamBadResponse.into());
            }
            let reply = reply_of(self.received.as_ref(), &response, length, upstream.is_framed());
            let passed = W::interim(self.client, &reply, self.facts).await;
            self.outcome.sent_bytes += passed.map_err(|_| self.overdue(Reason::ClientAbort))?.bytes;
            self.consume_head(length);
        }
    }

    /// Ready with the next head, which is at the start of what was received.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        upstream: &mut Upstream,
        scan: &mut HeadScan,
    ) -> Poll<Result<(Box<ResponseHead>, usize), Lost>> {
        if self.poll_upload(context, upstream) {
            self.client.deadline.set(self.patience());
        }
        if let Some(reason) = self.client_failure(context) {
            return Poll::Ready(Err(reason.into()));
        }
        if self.pace.is_on() {
            let now = self.client.worker.deadlines.now();
            let waits = self.awaits_client();
            if self.pace.lags(now, self.upload.payload, waits) {
                return Poll::Ready(Err(Reason::BodyTooSlow.into()));
            }
        }
        let buffers = &self.client.worker.buffers;
        upstream.poll_head(context, scan, &mut self.received, self.facts.method, W::READ, buffers)
    }

    /// Sends what there is of the request; whether that was anything. A failure ends the upload and not
    /// yet the attempt: an endpoint may answer and close without reading the rest.
    fn poll_upload(&mut self, context: &mut Context<'_>, upstream: &mut Upstream) -> bool {
        if self.upload.is_done() || self.upload_failure.is_some() {
            return false;
        }
        let before = self.upload.payload + self.upload.sent();
        let Client { wire, worker, .. } = &mut *self.client;
        let polled = self.upload.poll(context, wire.source(), upstream.sink(), worker);
        self.upload_failure = match polled {
            Poll::Ready(Err(RelayError::Source)) => Some(Reason::ClientAbort),
            Poll::Ready(Err(RelayError::Malformed(malformed))) => Some(malformed.into()),
            Poll::Ready(Err(RelayError::TooLarge)) => Some(Reason::BodyTooLarge),
            Poll::Ready(Err(RelayError::Sink | RelayError::Coding)) => Some(Reason::UpstreamReset),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        self.upload.payload + self.upload.sent() != before
    }

    /// Why the request can never be completed, if it is the client's doing.
    fn client_failure(&mut self, context: &mut Context<'_>) -> Option<Reason> {
        // While a body is read, reading notices.
        if self.watches_client && self.upload.is_done() {
            match self.client.wire.poll_gone(context) {
                Poll::Pending => {}
                Poll::Ready(true) => return Some(Reason::ClientAbort),
                Poll::Ready(false) => self.watches_client = false,
            }
        }
        let is_clients =
            |reason: &Reason| matches!(reason, Reason::BadBody | Reason::BodyTooLarge | Reason::ClientAbort);
        self.upload_failure.filter(is_clients)
    }

    /// How long whoever is waited for, while no response has begun, may take before something has to happen.
    fn patience(&self) -> Ticks {
        let Patience { upload, first_byte, .. } = self.facts.patience;
        match self.awaits_client() {
            true if self.pace.is_on() => upload.min(const { Ticks::of(UPLOAD_WINDOW) }),
            true => upload,
            false => first_byte,
        }
    }

    /// Whether it is the client's turn to say something.
    fn awaits_client(&self) -> bool {
        let may_send = !self.facts.expects_continue || self.interims > 0;
        !self.upload.is_done() && !self.upload.is_sending() && may_send
    }

    /// Who kept us waiting for a response's head.
    fn timed_out(&self) -> Reason {
        if self.client.is_aborting() {
            return Reason::Shutdown;
        }
        let reason = match self.awaits_client() {
            true if self.pace.is_on() => Reason::BodyTooSlow,
            true => Reason::BodyTimeout,
            false => Reason::UpstreamTimeout,
        };
        self.overdue(reason)
    }

    /// Why a wait has ended: `reason`, unless the whole request has had its time.
    fn overdue(&self, reason: Reason) -> Reason {
        if self.client.deadline.is_over() { Reason::RequestTimeout } else { reason }
    }

    fn consume_head(&mut self, length: usize) {
        if let Some(buffer) = &mut self.received {
            buffer.start += length;
        }
        if self.received.as_ref().is_some_and(Buffer::is_empty) {
            self.received.take().into_iter().for_each(|buffer| self.client.worker.buffers.put(buffer));
        }
    }

    /// Passes the response on, while the request's body may still be coming.
    async fn respond(&mut self, mut upstream: Upstream, response: &ResponseHead, length: usize) -> After {
        let keep_alive = self.facts.keep_alive
            && self.upload.is_done()
            && !encode::needs_close(response.framing, self.facts.version)
            && !self.client.is_draining();
        let mut reply = reply_of(self.received.as_ref(), response, length, upstream.is_framed());
        let plan = self.recode(&reply);
        reply.edits = self.facts.filtered.as_ref().map(|filtered| filtered.response_edits());
        let told = self.told(reply.edits.as_ref());
        if let Some(lines) = &told {
            reply.edits.get_or_insert(ResponseEdits::NONE).added = lines;
        }
        if let (Some(edits), Some(plan)) = (&mut reply.edits, &plan) {
            edits.recoding = Some(&plan.head);
        }
        let Client { wire, origin, .. } = &mut *self.client;
        let begun = wire.respond(&reply, keep_alive, self.facts, &origin.listener);
        self.consume_head(length);
        let Ok(download) = begun else {
            self.outcome.failure = Some(Reason::ClientAbort);
            return After::Abort;
        };
        let mut download = download.coded_by(plan.and_then(|plan| plan.encoder));
        let failure = self.pass_body(&mut upstream, &mut download).await.err();
        self.count_coded(&download);
        self.outcome.sent_bytes += download.sent();
        self.outcome.body_bytes = download.content();
        self.outcome.failure = failure;
        download.release(&self.client.worker);
        if let Some(reason) = failure {
            self.client.wire.abort(self.facts, reason);
            return After::Abort;
        }
        let is_whole = response.keep_alive
            && response.framing != Framing::UntilClose
            && self.upload.is_done()
            && self.upload_failure.is_none()
            // Bytes after the response belong to no request.
            && self.received.is_none();
        if is_whole {
            upstream.keep(&self.client.worker, &self.outcome.endpoint, self.facts.patience.kept);
        }
        if keep_alive {
            return After::KeepAlive;
        }
        // When a whole body was read, whether more follows is as for a request without one.
        let has_unread_body = self.facts.has_body() && !self.upload.is_done();
        self.client.wire.after_last(has_unread_body, self.facts)
    }

    /// What the app's compression makes of the response.
    fn recode(&self, reply: &Reply<'_>) -> Option<Plan> {
        let filtered = self.facts.filtered.as_ref()?;
        let Facts { method, version, is_grpc, .. } = *self.facts;
        let worker = &self.client.worker;
        let wanted = Wanted { method, version, is_grpc, worker: worker.index, coding: None };
        filtered.recode(reply.head, reply.bytes, wanted, &worker.encoders)
    }

    /// What the client is told of where it was, behind what `edits` adds.
    fn told(&self, edits: Option<&ResponseEdits<'_>>) -> Option<Vec<u8>> {
        let returning = self.facts.returning.as_ref()?;
        let mut lines = Vec::new();
        returning.answered_by(&self.outcome.endpoint, self.client.worker.index, &mut lines);
        (!lines.is_empty()).then(|| [edits.map_or(&[][..], |edits| edits.added), &lines].concat())
    }

    fn count_coded(&self, download: &Relay) {
        let Some(encoder) = download.encoder() else { return };
        let metrics = self.facts.filtered.as_ref().and_then(|filtered| filtered.compression_metrics());
        if let Some(metrics) = metrics {
            let cells = metrics.cells(self.client.worker.index);
            cells.count(encoder.coding, encoder.taken, encoder.given);
        }
    }

    async fn pass_body(&mut self, upstream: &mut Upstream, download: &mut Relay) -> Result<(), Reason> {
        let patience = self.facts.patience.between_bytes;
        self.client.deadline.set(patience);
        download.may_gather = true;
        let began = self.client.worker.deadlines.now();
        let mut pace = Pace::of(self.facts.body.min_rate, DOWNLOAD_WINDOW, began);
        let (mut progress, mut moved) = (0, began);
        poll_fn(|context| {
            let uploaded = self.poll_upload(context, upstream);
            if let Some(reason) = self.client_failure(context) {
                return Poll::Ready(Err(reason));
            }
            let Client { wire, worker, origin, deadline } = &mut *self.client;
            let source = upstream.source(&mut self.received);
            let polled = download.poll(context, source, wire.sink(), worker);
            let now = download.payload + download.sent();
            // What a client uploads does not excuse it from taking what it is sent.
            // Nor does it put off what ends gathering.
            if now != progress || uploaded && !download.is_sending() && !download.is_gathering() {
                progress = now;
                moved = worker.deadlines.now();
                deadline.set(match () {
                    () if download.is_sending() => TO_CLIENT,
                    () if download.is_gathering() => GATHERING,
                    () => patience,
                });
            }
            match polled {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(RelayError::Sink)) => Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Ready(Err(_)) => Poll::Ready(Err(Reason::UpstreamTruncated)),
                Poll::Pending if origin.is_aborting() => Poll::Ready(Err(Reason::Shutdown)),
                Poll::Pending
                    if download.is_sending()
                        && worker.sheds(Step::Stalled)
                        && worker.deadlines.now() - moved >= STALLED_TICKS
                        && worker.gives_up(Step::Stalled) =>
                {
                    Poll::Ready(Err(Reason::Overload))
                }
                Poll::Pending
                    if pace.lags(worker.deadlines.now(), download.sent(), download.is_sending()) =>
                {
                    Poll::Ready(Err(Reason::ClientAbort))
                }
                Poll::Pending if !deadline.has_passed() => Poll::Pending,
                Poll::Pending if deadline.is_over() => Poll::Ready(Err(Reason::RequestTimeout)),
                Poll::Pending if download.is_sending() => Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Pending if download.stop_gathering(&upstream.source(&mut self.received)) => {
                    deadline.set(patience);
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(Err(Reason::UpstreamStalled)),
            }
        })
        .await
    }

    /// Leaves HTTP: what follows is passed on as it comes, both ways. `answer` is what the endpoint said
    /// to that; without one it was not asked.
    async fn tunnel(&mut self, upstream: Upstream, answer: Option<(&ResponseHead, usize)>) -> After {
        let upward = match &upstream {
            Upstream::Http1(_) => Upward::Http1 { head: Vec::new() },
            Upstream::Http2(_) => Upward::Http2,
        };
        let is_framed = upstream.is_framed();
        let reply = answer.map(|(head, length)| reply_of(self.received.as_ref(), head, length, is_framed));
        let Ok(down) = self.client.wire.switch(reply.as_ref(), self.facts) else {
            self.outcome.failure = Some(Reason::ClientAbort);
            return After::Close;
        };
        self.consume_head(answer.map_or(0, |(_, length)| length));
        self.outcome.is_tunnel = true;
        if answer.is_none() {
            (self.outcome.responded, self.outcome.status) = (Some(Instant::now()), 200);
        }
        let up = self.client.wire.upload(Framing::UntilClose, upward);
        let tunnel = Tunnel::new(up, down, upstream, self.received.take());
        let cells = self.outcome.endpoint.metrics.cells(self.client.worker.index);
        let open = self.client.worker.clone().tunnels.begin(self.begun()).await;
        let passed = tunnel.run(self.client, self.facts.patience.tunnel, cells, &open).await;
        self.outcome.received_bytes += passed.received;
        self.outcome.sent_bytes += passed.sent;
        self.outcome.body_bytes = passed.sent;
        self.outcome.failure = passed.failure;
        let Some(reason) = passed.failure else { return After::Close };
        self.client.wire.abort(self.facts, reason);
        After::Abort
    }
}

impl<W> Attempt<'_, W> {
    /// What there is to say of a tunnel.
    fn begun(&self) -> Begun {
        let protocol = self.facts.upgrade.as_deref().map(String::from_utf8_lossy);
        let origin = &self.client.origin;
        Begun {
            kind: protocol.map_or(Kind::Connect, |protocol| Kind::Upgrade(protocol.into())),
            listener: origin.listener.name.clone(),
            client: origin.peer,
            endpoint: self.outcome.endpoint.clone(),
        }
    }
}

/// A response's head as the first `length` bytes received.
fn reply_of<'r>(
    received: Option<&'r Buffer>,
    head: &'r ResponseHead,
    length: usize,
    is_framed: bool,
) -> Reply<'r> {
    let filled = received.map_or(&[][..], |buffer| buffer.filled());
    Reply { head, bytes: &filled[..length], arrived: filled.len() - length, is_framed, edits: None }
}
