//! A request's stream on an HTTP/2 connection to an endpoint.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::task::spawn_local;

use super::super::timeouts;
use super::Lost;
use super::dial::{DialError, dial};
use super::slot;
use crate::listener::Stream;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::Alpn;
use crate::message::response::MAX_HEAD_BYTES;
use crate::message::{Method, ResponseHead, http2};
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::{Deadline, Driven, Found, Full, Lease, Ticks, Worker, take_slot};

/// What an endpoint may send of one body before we have passed it on: a megabit's delay of 250 ms.
const STREAM_WINDOW: u32 = 256 << 10;
/// For all bodies of a connection: a few that flow at full speed. Also what an endpoint can make us hold.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What h2 holds of a request's body before we are told to wait.
const SEND_BUFFER: usize = 64 << 10;

/// Until the endpoint's settings have come: how many streams it takes, and whether it knows RFC 8441,
/// is not guessed. No endpoint names this number, and one that did would only be waited for.
const UNKNOWN_STREAMS: usize = 0x7fff_fffe;

/// A request under way.
#[derive(Debug)]
pub struct Exchange {
    response: ResponseFuture,
    pub send: SendStream<Bytes>,
    /// Of the response, once its head has come.
    pub body: Option<RecvStream>,
    _lease: Lease,
}

/// A place on a connection to `endpoint`: one of those that are open, or a new one, `within` the time that
/// the app gives connections.
///
/// # Errors
/// [`DialError`], when a new one was needed.
pub async fn lease(
    worker: &Worker,
    endpoint: &PooledEndpoint,
    client: Addresses,
    deadline: &Deadline,
    within: Option<Ticks>,
) -> Result<Lease, DialError> {
    deadline.set(within.unwrap_or(const { Ticks::of(timeouts::SHARED_CONNECT) }));
    if endpoint.manner.proxy_protocol.is_some() {
        let slot = slot::wait(worker, endpoint, deadline).await?;
        let stream = dial(endpoint, client, deadline, Alpn::H2, within).await?;
        let (sender, connection) = handshake(stream, deadline).await?;
        return Ok(drive(worker.http2_upstreams.private(sender, slot), connection));
    }
    let most = share_of_connections(worker, endpoint);
    let mut has_waited = false;
    loop {
        match worker.http2_upstreams.find(endpoint.live.id, most) {
            Found::Place(lease) => return Ok(lease),
            Found::Wait(opening) => {
                let mut opened = pin!(opening.notified());
                if deadline.bound(|context| opened.as_mut().poll(context)).await.is_err() {
                    return Err(DialError::TimedOut);
                }
            }
            Found::Full => slot::tick(worker, deadline, Reason::AppOverloaded).await?,
            Found::Connect(opening) => {
                let slot = match take_slot(endpoint, std::mem::take(&mut has_waited)) {
                    Ok(slot) => slot,
                    Err(Full { meter, reason }) => {
                        // Meanwhile one that is open may have room again.
                        drop(opening);
                        let want = meter.want();
                        slot::tick(worker, deadline, reason).await?;
                        has_waited = true;
                        drop(want);
                        continue;
                    }
                };
                let stream = dial(endpoint, client, deadline, Alpn::H2, within).await?;
                let (sender, connection) = handshake(stream, deadline).await?;
                return Ok(drive(worker.http2_upstreams.add(opening, sender, slot), connection));
            }
        }
    }
}

/// What one worker may open of the connections that an endpoint may have: so that none is left without.
fn share_of_connections(worker: &Worker, endpoint: &PooledEndpoint) -> Option<usize> {
    let limits = endpoint.gate.as_ref()?.limits.as_ref()?;
    let all = limits.connections_per_endpoint? as usize;
    Some((all / worker.shared.workers).max(1))
}

fn drive((lease, driven): (Lease, Driven), connection: Connection) -> Lease {
    spawn_local(async move {
        // However it ends, its streams are told.
        let _ = connection.await;
        drop(driven);
    });
    lease
}

type Connection = h2::client::Connection<Stream, Bytes>;

async fn handshake(
    stream: Stream,
    deadline: &Deadline,
) -> Result<(SendRequest<Bytes>, Connection), DialError> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNKNOWN_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buffer_size(SEND_BUFFER);
    let opening = async {
        let (sender, mut connection) = builder.handshake(stream).await?;
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            _ if sender.current_max_send_streams() != UNKNOWN_STREAMS => Poll::Ready(Ok(())),
            Poll::Ready(ended) => Poll::Ready(ended.and(Err(h2::Reason::NO_ERROR.into()))),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok::<_, h2::Error>((sender, connection))
    };
    let mut opening = Box::pin(opening);
    match deadline.bound(|context| opening.as_mut().poll(context)).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(_)) => Err(DialError::Failed),
        Err(_) => Err(DialError::TimedOut),
    }
}

impl Exchange {
    /// Sends the head; `is_all`: and that nothing follows.
    ///
    /// # Errors
    /// [`Lost`]; nothing was sent.
    pub fn begin(lease: Lease, head: http::Request<()>, is_all: bool) -> Result<Self, Lost> {
        match lease.sender().send_request(head, is_all) {
            Ok((response, send)) => Ok(Self { response, send, body: None, _lease: lease }),
            Err(_) => {
                lease.give_up();
                Err(Lost { reason: Reason::UpstreamReset, is_untouched: true })
            }
        }
    }

    /// Ready with the next head, interim or final, in the form that all responses have.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        method: Method,
    ) -> Poll<Result<(Vec<u8>, ResponseHead), Lost>> {
        const BAD: Lost = Lost { reason: Reason::UpstreamBadResponse, is_untouched: false };
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(context) {
            let (head, ()) = interim.map_err(|error| lost(&error))?.into_parts();
            return Poll::Ready(http2::read_response(&head, method, false).map_err(|_| BAD));
        }
        let response = ready!(Pin::new(&mut self.response).poll(context)).map_err(|error| lost(&error))?;
        let (head, body) = response.into_parts();
        let has_body = !body.is_end_stream();
        self.body = Some(body);
        Poll::Ready(http2::read_response(&head, method, has_body).map_err(|_| BAD))
    }
}

fn lost(error: &h2::Error) -> Lost {
    let is_refused = error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let is_beyond_goaway =
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    let is_library = error.is_library();
    let reason = if is_library { Reason::UpstreamBadResponse } else { Reason::UpstreamReset };
    Lost { reason, is_untouched: is_refused || is_beyond_goaway }
}
