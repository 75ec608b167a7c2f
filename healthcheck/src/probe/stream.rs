//! A probe's connection, in clear text or with TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use topology::Protocol;

use super::{Deadline, ProbeError};

/// How the endpoints of an app are spoken to; requests go the same way.
pub trait ProbeTls: std::fmt::Debug + Send + Sync {
    /// For the next connection, to an endpoint that speaks `protocol` inside.
    fn client_config(&self, protocol: Protocol) -> Arc<ClientConfig>;

    /// What the endpoint must prove to be.
    fn server_name(&self) -> &ServerName<'static>;
}

#[derive(Debug)]
pub(crate) enum ProbeStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ProbeStream {
    /// Speaks TLS on `socket` where the endpoint wants it.
    pub(super) async fn secure(
        socket: TcpStream,
        tls: Option<&Arc<dyn ProbeTls>>,
        protocol: Protocol,
        deadline: Deadline,
    ) -> Result<Self, ProbeError> {
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let connector = TlsConnector::from(tls.client_config(protocol));
        // Boxed: a prober that waits for its turn holds room for whatever it may do.
        let connecting = Box::pin(connector.connect(tls.server_name().clone(), socket));
        match timeout_at(deadline.at, connecting).await {
            Err(_elapsed) => Err(ProbeError::Timeout(deadline.granted)),
            Ok(Err(error)) => Err(ProbeError::Tls(error)),
            Ok(Ok(stream)) => Ok(Self::Tls(Box::new(stream))),
        }
    }

    /// For the time until the next probe. `None` where the runtime does not let it go.
    pub(crate) fn rest(self) -> Option<Idle> {
        match self {
            Self::Plain(socket) => socket.into_std().ok().map(Idle::Plain),
            Self::Tls(stream) => Some(Idle::Tls(stream)),
        }
    }
}

/// A connection between two probes. In clear text it is a bare file descriptor, since there may be a hundred thousand; one with TLS
/// holds its keys and buffers, and stays with the runtime.
#[derive(Debug)]
pub(crate) enum Idle {
    Plain(std::net::TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Idle {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// For the next probe. `None`: it was closed by the endpoint, or there are bytes that nobody asked for.
    pub(super) fn wake(self) -> Option<ProbeStream> {
        let mut byte = [0];
        let (heard, stream) = match self {
            Self::Plain(socket) => {
                (socket.peek(&mut byte), TcpStream::from_std(socket).map(ProbeStream::Plain))
            }
            Self::Tls(stream) => (stream.get_ref().0.try_read(&mut byte), Ok(ProbeStream::Tls(stream))),
        };
        let is_quiet = heard.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        stream.ok().filter(|_| is_quiet)
    }

    /// Closes a connection on which nothing is outstanding, by a reset: a farewell in four parts costs as much as the request did,
    /// and twenty thousand a second leave more addresses in TIME_WAIT than a kernel keeps. HAProxy ends its probes so, too.
    pub(crate) fn cut(self) {
        let socket = match &self {
            Self::Plain(socket) => socket2::SockRef::from(socket),
            Self::Tls(stream) => socket2::SockRef::from(stream.get_ref().0),
        };
        // What fails here is closed as any other.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for ProbeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ProbeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
