//! A new connection to an endpoint.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::super::timeouts;
use crate::listener::Stream;
use crate::listener::proxy_protocol::{Addresses, write_header};
use crate::listener::tls::Alpn;
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::{Deadline, Ticks};

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialError {
    /// The endpoint refused, or could not be reached.
    Failed,
    TimedOut,
    /// It did not prove who it is, or speaks no TLS that we do.
    Tls,
    /// We have no socket left, which is no endpoint's fault.
    OutOfSockets,
    /// There are as many connections as there may be, and this says whose.
    Full(Reason),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        if ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            Self::OutOfSockets
        } else if error.kind() == io::ErrorKind::TimedOut {
            Self::TimedOut
        } else {
            Self::Failed
        }
    }
}

/// Connects as the endpoint wants to be connected to, on behalf of `client`, for what it speaks there.
/// `within` bounds all steps together; without it each has its own time.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    endpoint: &PooledEndpoint,
    client: Addresses,
    deadline: &Deadline,
    alpn: Alpn,
    within: Option<Ticks>,
) -> Result<Stream, DialError> {
    deadline.set(within.unwrap_or(const { Ticks::of(timeouts::CONNECT) }));
    let mut socket = connect(endpoint.address, deadline).await?;
    if let Some(version) = endpoint.manner.proxy_protocol {
        let mut header = Vec::new();
        write_header(version, client, &mut header);
        let mut sending = pin!(socket.write_all(&header));
        match deadline.bound(|context| sending.as_mut().poll(context)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(DialError::TimedOut),
        }
    }
    let Some(tls) = &endpoint.manner.tls else { return Ok(Stream::Plain(socket)) };
    if within.is_none() {
        deadline.set(timeouts::HANDSHAKE);
    }
    let mut shaking = Box::pin(Stream::connect(socket, tls.config(alpn), tls.server_name.clone()));
    match deadline.bound(|context| shaking.as_mut().poll(context)).await {
        Ok(Ok(stream)) if alpn != Alpn::H2 || stream.alpn() == Some(b"h2") => Ok(stream),
        Ok(Ok(_)) => {
            tracing::debug!(address = %endpoint.address, "the endpoint does not speak h2 over TLS");
            Err(DialError::Tls)
        }
        Ok(Err(error)) => {
            tracing::debug!(address = %endpoint.address, %error, "TLS with the endpoint failed");
            Err(DialError::Tls)
        }
        Err(_) => Err(DialError::TimedOut),
    }
}

/// # Errors
/// The socket's error, or [`io::ErrorKind::TimedOut`] once `deadline` has passed.
async fn connect(address: SocketAddr, deadline: &Deadline) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Heads and chunks are written whole: waiting for more only delays them.
    socket.set_nodelay(true)?;
    let mut connecting = pin!(socket.connect(address));
    match deadline.bound(|context| connecting.as_mut().poll(context)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
