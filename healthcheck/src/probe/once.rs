//! One attempt for somebody who keeps the score himself.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use topology::{HttpProbeSettings, Protocol};

use super::http::HttpProbe;
use super::{Deadline, ProbeError, Way, http2, tcp};

/// What is asked of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'q> {
    /// Whether a connection is accepted.
    Tcp,
    /// GET over HTTP/1.1: 200 to 299 passes.
    Http1 { path: &'q str },
    /// The same over HTTP/2 with prior knowledge.
    Http2 { path: &'q str },
}

/// Asks once, in clear text, on a connection of its own.
///
/// # Errors
/// [`ProbeError`], also when there is no answer within `timeout`.
pub async fn probe_once(
    address: SocketAddr,
    question: Question<'_>,
    timeout: Duration,
) -> Result<(), ProbeError> {
    let way = Way { address, tls: None, deadline: Deadline::after(Instant::now(), timeout) };
    let http = HttpProbeSettings::default();
    let outcome = match question {
        Question::Tcp => tcp::probe(way, Protocol::Tcp).await,
        Question::Http1 { path } => Box::pin(HttpProbe { way, path, http: &http }.run(None)).await.0,
        Question::Http2 { path } => Box::pin(http2::probe(way, path, &http)).await,
    };
    outcome.map(|_| ())
}
