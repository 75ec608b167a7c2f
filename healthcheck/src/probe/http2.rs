//! GET a path over HTTP/2, in clear text by prior knowledge: a status of 200 to 299 passes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::Builder;
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout_at;
use topology::Protocol;

use super::{Deadline, ProbeError, ProbeStream, ProbeTls, USER_AGENT, connect};

/// Bounds a response's head, as for HTTP/1.1.
const MAX_HEAD_BYTES: u32 = 16 << 10;

/// One request on a connection of its own.
pub(crate) async fn probe(
    address: SocketAddr,
    tls: Option<&Arc<dyn ProbeTls>>,
    path: &str,
    deadline: Deadline,
) -> Result<(), ProbeError> {
    let bad_path = || ProbeError::BadPath(path.chars().take(ProbeError::MAX_TEXT_BYTES).collect());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = Request::get(format!("{scheme}://{address}{path}"))
        .header(header::USER_AGENT, USER_AGENT)
        .body(Empty::<Bytes>::new());
    let request = request.ok().filter(|_| path.starts_with('/')).ok_or_else(bad_path)?;
    let socket = connect(address, deadline).await?;
    let stream = ProbeStream::secure(socket, tls, Protocol::Http2, deadline).await?;
    let exchange = async {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.max_header_list_size(MAX_HEAD_BYTES);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(ProbeError::from_exchange)?;
        let sending = sender.send_request(request);
        tokio::select! {
            response = sending => response.map_err(ProbeError::from_exchange),
            ended = connection => Err(match ended {
                Ok(()) => ProbeError::Reset("connection closed".into()),
                Err(error) => ProbeError::from_exchange(error),
            }),
        }
    };
    match timeout_at(deadline.at, exchange).await {
        Err(_elapsed) => Err(ProbeError::Timeout(deadline.granted)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(ProbeError::Status(response.status())),
    }
}
