//! A request over HTTP/2, in clear text by prior knowledge.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::Builder;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout_at;
use topology::{HttpProbeSettings, Protocol};

use super::body::{Found, Search};
use super::{Outcome, Pass, ProbeError, ProbeStream, USER_AGENT, Way, connect};

/// Bounds a response's head, as for HTTP/1.1.
const MAX_HEAD_BYTES: u32 = 16 << 10;

/// One request on a connection of its own.
pub(crate) async fn probe(way: Way<'_>, path: &str, http: &HttpProbeSettings) -> Outcome {
    let bad_path = || ProbeError::BadPath(path.chars().take(ProbeError::MAX_TEXT_BYTES).collect());
    let address = way.address.to_string();
    let host = http.host.as_deref().unwrap_or(&address);
    let scheme = if way.tls.is_some() { "https" } else { "http" };
    let mut request = Request::builder()
        .method(http.method.as_str())
        .uri(format!("{scheme}://{host}{path}"))
        .header(header::USER_AGENT, USER_AGENT)
        .body(Empty::<Bytes>::new())
        .ok()
        .filter(|_| path.starts_with('/'))
        .ok_or_else(bad_path)?;
    super::http::add_headers(request.headers_mut(), http).ok_or_else(bad_path)?;
    exchange(way, request, |response| judge(response, http)).await
}

async fn judge(response: Response<Incoming>, http: &HttpProbeSettings) -> Outcome {
    let status = response.status();
    if !http.accepts(status.as_u16()) {
        return Err(ProbeError::Status(status));
    }
    let Some(wanted) = &http.body else { return Ok(Pass::Whole) };
    let (mut body, mut search) = (response.into_body(), Search::new(wanted));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ProbeError::from_exchange)?;
        match frame.data_ref().map_or(Found::NotYet, |data| search.add(data)) {
            Found::Yes => return Ok(Pass::Whole),
            Found::NotYet => {}
            Found::No => break,
        }
    }
    Err(ProbeError::Body { status, wanted: Arc::clone(wanted) })
}

/// Sends `request` on a new connection and has `judge` look at the answer, whose body it may read.
pub(super) async fn exchange<B, J>(
    way: Way<'_>,
    request: Request<B>,
    judge: impl FnOnce(Response<Incoming>) -> J,
) -> Outcome
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    J: Future<Output = Outcome>,
{
    let socket = connect(way.address, way.deadline).await?;
    let stream = ProbeStream::secure(socket, way.tls, Protocol::Http2, way.deadline).await?;
    let exchange = async {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.max_header_list_size(MAX_HEAD_BYTES);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(ProbeError::from_exchange)?;
        let mut connection = pin!(connection);
        let mut asking = pin!(async {
            judge(sender.send_request(request).await.map_err(ProbeError::from_exchange)?).await
        });
        let mut ended = None;
        poll_fn(|context| {
            if ended.is_none()
                && let Poll::Ready(end) = connection.as_mut().poll(context)
            {
                ended = Some(end);
            }
            // A connection may end with the answer.
            match (asking.as_mut().poll(context), ended.take()) {
                (Poll::Ready(outcome), _) => Poll::Ready(outcome),
                (Poll::Pending, None) => Poll::Pending,
                (Poll::Pending, Some(Ok(()))) => {
                    Poll::Ready(Err(ProbeError::Reset("connection closed".into())))
                }
                (Poll::Pending, Some(Err(error))) => Poll::Ready(Err(ProbeError::from_exchange(error))),
            }
        })
        .await
    };
    match timeout_at(way.deadline.at, exchange).await {
        Err(_elapsed) => Err(ProbeError::Timeout(way.deadline.granted)),
        Ok(outcome) => outcome,
    }
}
