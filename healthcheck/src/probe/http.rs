//! GET a path over HTTP/1.1: a status of 200 to 299 passes.
//!
//! The connection serves the next probe too. Between probes it is held as a bare socket: hyper's
//! buffers and state live only as long as an exchange.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout_at;
use topology::Protocol;

use super::{Deadline, ProbeError, ProbeStream, ProbeTls, USER_AGENT, connect};

/// Bounds a response's head: twice what common servers send at most, so it is the endpoint that is
/// wrong. hyper's least is 8 KiB.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// A ping's body is a word. One up to this size is read to keep the connection; beyond it a new
/// connection is cheaper than reading on.
const MAX_BODY_BYTES: usize = 64 << 10;

pub(crate) struct HttpProbe<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<&'a Arc<dyn ProbeTls>>,
    pub(crate) path: &'a str,
    pub(crate) deadline: Deadline,
}

/// One request on one connection, polled by the task that awaits its parts.
struct Exchange {
    sender: SendRequest<Empty<Bytes>>,
    connection: Connection<TokioIo<ProbeStream>, Empty<Bytes>>,
    ended: bool,
}

/// A response whose head is read.
struct Answer {
    status: StatusCode,
    rest: Rest,
}

/// What is left on a connection after the head.
pub(crate) struct Rest {
    exchange: Exchange,
    body: Incoming,
    deadline: Deadline,
}

/// An exchange without an answer.
struct Unanswered {
    error: ProbeError,
    /// The connection was lost before any byte came back: on one that had been idle, the endpoint may
    /// have closed it at the moment we wrote (RFC 9112 section 9.3.1).
    untouched: bool,
}

impl HttpProbe<'_> {
    /// Tries `kept` where it still stands, else a new connection. With an answer comes the rest of it,
    /// for [`Rest::into_idle`].
    pub(crate) async fn run(&self, kept: Option<ProbeStream>) -> (Result<(), ProbeError>, Option<Rest>) {
        match self.ask(kept).await {
            Ok(Answer { status, rest }) if status.is_success() => (Ok(()), Some(rest)),
            Ok(Answer { status, rest }) => (Err(ProbeError::Status(status)), Some(rest)),
            Err(error) => (Err(error), None),
        }
    }

    async fn ask(&self, kept: Option<ProbeStream>) -> Result<Answer, ProbeError> {
        if let Some(stream) = kept.filter(ProbeStream::is_quiet) {
            match self.exchange(stream).await {
                Err(Unanswered { untouched: true, .. }) => {}
                answer => return answer.map_err(|unanswered| unanswered.error),
            }
        }
        let socket = connect(self.address, self.deadline).await?;
        let stream = ProbeStream::secure(socket, self.tls, Protocol::Http1, self.deadline).await?;
        self.exchange(stream).await.map_err(|unanswered| unanswered.error)
    }

    async fn exchange(&self, stream: ProbeStream) -> Result<Answer, Unanswered> {
        let certain = |error| Unanswered { error, untouched: false };
        let request = self.request().map_err(certain)?;
        let mut exchange = Exchange::open(stream).await.map_err(certain)?;
        let sending = exchange.sender.send_request(request);
        let result = match timeout_at(self.deadline.at, exchange.drive(sending)).await {
            Err(_elapsed) => return Err(certain(ProbeError::Timeout(self.deadline.granted))),
            Ok(None) => Err(ProbeError::Reset("connection closed".into())),
            Ok(Some(response)) => response.map_err(ProbeError::from_exchange),
        };
        match result {
            Ok(response) => {
                let status = response.status();
                let rest = Rest { exchange, body: response.into_body(), deadline: self.deadline };
                Ok(Answer { status, rest })
            }
            Err(error) => {
                let lost = matches!(error, ProbeError::Reset(_));
                let untouched = lost && exchange.connection.into_parts().read_buf.is_empty();
                Err(Unanswered { error, untouched })
            }
        }
    }

    /// What the endpoint proved to be, since it may refuse other names on this connection (RFC 9110
    /// section 15.5.20).
    fn host(&self) -> String {
        match self.tls.map(|tls| tls.server_name()) {
            Some(ServerName::DnsName(name)) => name.as_ref().to_owned(),
            _ => self.address.to_string(),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let bad = || ProbeError::BadPath(self.path.chars().take(ProbeError::MAX_TEXT_BYTES).collect());
        if !self.path.starts_with('/') {
            return Err(bad());
        }
        Request::get(self.path)
            .header(header::HOST, self.host())
            .header(header::USER_AGENT, USER_AGENT)
            .body(Empty::new())
            .map_err(|_| bad())
    }
}

impl Exchange {
    async fn open(stream: ProbeStream) -> Result<Self, ProbeError> {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeError::from_exchange)?;
        Ok(Self { sender, connection, ended: false })
    }

    /// Moves the connection until `wanted` is there; `None` when the connection ends before that. The
    /// connection's own error is not lost: hyper hands it to the request in progress.
    async fn drive<T>(&mut self, wanted: impl Future<Output = T>) -> Option<T> {
        let mut wanted = pin!(wanted);
        poll_fn(|context| {
            if !self.ended {
                self.ended = Pin::new(&mut self.connection).poll(context).is_ready();
            }
            match wanted.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if self.ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The socket, if the connection may carry another request and nothing unread came with the last.
    async fn into_idle(mut self) -> Option<ProbeStream> {
        let Self { sender, connection, ended } = &mut self;
        if *ended {
            return None;
        }
        let ready = poll_fn(|context| {
            if Pin::new(&mut *connection).poll(context).is_ready() {
                return Poll::Ready(false);
            }
            sender.poll_ready(context).map(|ready| ready.is_ok())
        });
        if !ready.await {
            return None;
        }
        let parts = self.connection.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

impl Rest {
    /// Reads what is left of the answer, within bounds of size and time, to have the connection idle.
    pub(crate) async fn into_idle(self) -> Option<ProbeStream> {
        let Self { mut exchange, mut body, deadline } = self;
        let idle = async {
            let mut read = 0;
            while let Some(frame) = exchange.drive(body.frame()).await? {
                read += frame.ok()?.data_ref().map_or(0, Bytes::len);
                if read > MAX_BODY_BYTES {
                    return None;
                }
            }
            exchange.into_idle().await
        };
        timeout_at(deadline.at, idle).await.ok().flatten()
    }
}
