//! A new connection to an endpoint.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::net::{TcpSocket, TcpStream};

use super::timeouts;
use crate::worker::Deadline;

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
