//! A request over HTTP/1.1, a GET of a path if nothing else is asked for.
//!
//! The connection serves the next probe too. Between probes it is held as a bare socket: hyper's
//! buffers and state live only as long as an exchange.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout_at;
use topology::{HttpProbeSettings, Protocol};

use super::body::{Found, MAX_BODY_BYTES, Search};
use super::{Deadline, Idle, Outcome, Pass, ProbeError, ProbeStream, USER_AGENT, Way, connect};

/// Bounds a response's head: twice what common servers send at most, so it is the endpoint that is
/// wrong. hyper's least is 8 KiB.
const MAX_HEAD_BYTES: usize = 16 << 10;
pub(crate) struct HttpProbe<'a> {
    pub(crate) way: Way<'a>,
    pub(crate) path: &'a str,
    pub(crate) http: &'a HttpProbeSettings,
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
    /// Bytes of the body that were read.
    read: usize,
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
    /// Tries `idle` where it still stands, else a new connection. With an answer comes the rest of it,
    /// for [`Rest::into_idle`].
    pub(crate) async fn run(&self, idle: Option<Idle>) -> (Outcome, Option<Rest>) {
        let Answer { status, mut rest } = match self.ask(idle).await {
            Ok(answer) => answer,
            Err(error) => return (Err(error), None),
        };
        if !self.http.accepts(status.as_u16()) {
            return (Err(ProbeError::Status(status)), Some(rest));
        }
        let Some(wanted) = &self.http.body else { return (Ok(Pass::Whole), Some(rest)) };
        match rest.contains(wanted).await {
            Ok(true) => (Ok(Pass::Whole), Some(rest)),
            Ok(false) => (Err(ProbeError::Body { status, wanted: Arc::clone(wanted) }), Some(rest)),
            Err(error) => (Err(error), None),
        }
    }

    async fn ask(&self, idle: Option<Idle>) -> Result<Answer, ProbeError> {
        if let Some(stream) = idle.and_then(Idle::wake) {
            match self.exchange(stream).await {
                Err(Unanswered { untouched: true, .. }) => {}
                answer => return answer.map_err(|unanswered| unanswered.error),
            }
        }
        let Way { address, tls, deadline } = self.way;
        let socket = connect(address, deadline).await?;
        let stream = ProbeStream::secure(socket, tls, Protocol::Http1, deadline).await?;
        self.exchange(stream).await.map_err(|unanswered| unanswered.error)
    }

    async fn exchange(&self, stream: ProbeStream) -> Result<Answer, Unanswered> {
        let certain = |error| Unanswered { error, untouched: false };
        let request = self.request().map_err(certain)?;
        let mut exchange = Exchange::open(stream).await.map_err(certain)?;
        let sending = exchange.sender.send_request(request);
        let result = match timeout_at(self.way.deadline.at, exchange.drive(sending)).await {
            Err(_elapsed) => return Err(certain(ProbeError::Timeout(self.way.deadline.granted))),
            Ok(None) => Err(ProbeError::Reset("connection closed".into())),
            Ok(Some(response)) => response.map_err(ProbeError::from_exchange),
        };
        match result {
            Ok(response) => {
                let status = response.status();
                let rest =
                    Rest { exchange, body: response.into_body(), read: 0, deadline: self.way.deadline };
                Ok(Answer { status, rest })
            }
            Err(error) => {
                let lost = matches!(error, ProbeError::Reset(_));
                let untouched = lost && exchange.connection.into_parts().read_buf.is_empty();
                Err(Unanswered { error, untouched })
            }
        }
    }

    /// If no other is asked for, what the endpoint proved to be, since it may refuse other names on this
    /// connection (RFC 9110 section 15.5.20).
    fn host(&self) -> String {
        match (&self.http.host, self.way.tls.map(|tls| tls.server_name())) {
            (Some(host), _) => host.to_string(),
            (None, Some(ServerName::DnsName(name))) => name.as_ref().to_owned(),
            _ => self.way.address.to_string(),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let bad = || ProbeError::BadPath(self.path.chars().take(ProbeError::MAX_TEXT_BYTES).collect());
        if !self.path.starts_with('/') {
            return Err(bad());
        }
        let mut request = Request::builder()
            .method(self.http.method.as_str())
            .uri(self.path)
            .header(header::HOST, self.host())
            .header(header::USER_AGENT, USER_AGENT)
            .body(Empty::new())
            .map_err(|_| bad())?;
        add_headers(request.headers_mut(), self.http).ok_or_else(bad)?;
        Ok(request)
    }
}

/// Those of the settings, in place of our own of the same name. `None` where one cannot be sent.
pub(super) fn add_headers(fields: &mut HeaderMap, http: &HttpProbeSettings) -> Option<()> {
    for (name, value) in &http.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        fields.insert(name, HeaderValue::from_str(value).ok()?);
    }
    Some(())
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
    /// Whether `wanted` is within the bytes of the body that are looked at. Stops reading once it is known.
    async fn contains(&mut self, wanted: &str) -> Result<bool, ProbeError> {
        let mut search = Search::new(wanted);
        let Self { exchange, body, read, deadline } = self;
        loop {
            let frame = match timeout_at(deadline.at, exchange.drive(body.frame())).await {
                Err(_elapsed) => return Err(ProbeError::Timeout(deadline.granted)),
                Ok(None) => return Err(ProbeError::Reset("connection closed".into())),
                Ok(Some(None)) => return Ok(false),
                Ok(Some(Some(frame))) => frame.map_err(ProbeError::from_exchange)?,
            };
            let Some(data) = frame.data_ref() else { continue };
            *read += data.len();
            match search.add(data) {
                Found::Yes => return Ok(true),
                Found::NotYet => {}
                Found::No => return Ok(false),
            }
        }
    }

    /// Reads what is left of the answer, within bounds of size and time, to have the connection idle.
    pub(crate) async fn into_idle(self) -> Option<ProbeStream> {
        let Self { mut exchange, mut body, mut read, deadline } = self;
        let idle = async {
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
