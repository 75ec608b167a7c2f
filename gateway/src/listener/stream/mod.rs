//! A byte stream to a client or to an endpoint, with or without TLS.
//!
//! TLS is rustls without its buffers: `session` turns bytes into records and back, `tls` moves them
//! between the socket and the caller, `scratch` is the memory that a thread's connections do it in, one
//! after the other. A connection that waits holds keys and nothing else.
//!
//! The price: rustls hands a record over in memory of its own, so it is copied once more on its way out
//! than with rustls' buffers. Against the 4 KiB that those keep for every idle connection that is cheap.

mod held;
mod scratch;
mod server_name;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig};
pub use server_name::NotesServerName;
pub use tls::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The TLS state is boxed: it is many times as large as a socket.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Does a server's part of a handshake. Dropping the future gives the connection up.
    ///
    /// # Errors
    /// `InvalidData` with the [`rustls::Error`] inside when one of the two sides refuses, after our alert
    /// has been sent; `UnexpectedEof` when the client goes; otherwise the socket's error.
    pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::shake_hands(TlsStream::server(socket, config)?).await
    }

    /// Does a client's part of a handshake with the endpoint `name`.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn connect(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Self::shake_hands(TlsStream::client(socket, config, name)?).await
    }

    async fn shake_hands(stream: TlsStream) -> io::Result<Self> {
        let mut stream = Box::new(stream);
        std::future::poll_fn(|context| stream.poll_handshake(context)).await?;
        Ok(Self::Tls(stream))
    }

    /// The protocol that both sides agreed on (ALPN).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls_state()?.alpn_protocol()
    }

    /// The name that a client asked for (SNI), if the configuration's certificates are chosen through
    /// [`NotesServerName`].
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.server_name(),
        }
    }

    /// The chain that the other side has proved to own, leaf first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls_state()?.peer_certificates()
    }

    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.tls_state()?.protocol_version()
    }

    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.tls_state()?.handshake_kind()
    }

    fn tls_state(&self) -> Option<&CommonState> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.state()),
        }
    }

    /// Hands everything to the kernel that TLS may still hold back.
    pub fn poll_flush_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(context)
    }

    /// Before a close: tells a TLS client that the stream ends here and was not cut. TCP's own FIN needs no
    /// help.
    pub fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_goodbye(context),
        }
    }

    /// Says that nothing more will be sent.
    pub fn poll_shutdown_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// What the client connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket().local_addr().ok()
    }

    /// Ready when something has arrived: true if it is a reset, false if it is bytes or a FIN.
    pub fn poll_reset(&self, context: &mut Context<'_>) -> Poll<bool> {
        let socket = self.socket();
        socket.poll_read_ready(context).map(|_| !matches!(socket.take_error(), Ok(None)))
    }

    /// Whether we or the kernel hold bytes that nobody has read. Costs no system call where the last read took
    /// all that there was and the driver has seen no event since.
    pub fn has_unread(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        if matches!(self, Self::Tls(tls) if tls.holds_received()) {
            return true;
        }
        let peeked = self.socket().try_io(Interest::READABLE, || {
            Ok(recv(self.socket(), &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?)
        });
        matches!(peeked, Ok((1.., _)))
    }

    /// Nothing to read and not closed. Costs no system call while the driver has seen no event for the
    /// socket. (`poll_read_ready` would be wrong here: it also says "pending" when the task has used up
    /// its cooperative budget.)
    pub fn is_quiet(&self) -> bool {
        let holds = matches!(self, Self::Tls(tls) if tls.holds_received());
        let read = self.socket().try_read(&mut [0]);
        !holds && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// A peer that has vanished is noticed in a silence that may last an hour.
    pub fn keep_alive(&self) {
        keep_alive(self.socket());
    }

    /// Makes the coming close a reset, so that the client cannot take a cut response for a whole one.
    pub fn reset_on_close(&self) {
        reset_on_close(self.socket());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(tls) => tls.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(tls) => tls.poll_write(context, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(tls) => tls.poll_write(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(tls) => tls.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => tls.poll_shutdown(context),
        }
    }
}

/// See [`Stream::keep_alive`].
pub fn keep_alive(socket: &TcpStream) {
    // Where it fails the socket is already dead.
    let _ = socket2::SockRef::from(socket).set_keepalive(true);
}

/// Makes the coming close a reset.
fn reset_on_close(socket: &TcpStream) {
    // Where it fails the socket is already dead.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
