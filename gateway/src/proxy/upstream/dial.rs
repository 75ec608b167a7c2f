//! A new connection to an endpoint.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::super::timeouts;
use crate::listener::Stream;
use crate::table::PooledEndpoint;
use crate::worker::Deadline;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialError {
    /// The endpoint refused, or could not be reached.
    Failed,
    TimedOut,
    /// We have no socket left, which is no endpoint's fault.
    OutOfSockets,
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

/// Connects as the endpoint wants to be connected to.
///
/// # Errors
/// [`DialError`].
pub async fn dial(endpoint: &PooledEndpoint, deadline: &Deadline) -> Result<Stream, DialError> {
    Ok(Stream::Plain(connect(endpoint.address, deadline).await?))
}

/// # Errors
/// The socket's error, or [`io::ErrorKind::TimedOut`] after [`timeouts::CONNECT`].
pub async fn connect(address: SocketAddr, deadline: &Deadline) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Heads and chunks are written whole: waiting for more only delays them.
    socket.set_nodelay(true)?;
    deadline.set(timeouts::CONNECT);
    let mut connecting = pin!(socket.connect(address));
    match deadline.bound(|context| connecting.as_mut().poll(context)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
