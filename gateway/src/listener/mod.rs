//! Listening sockets, one per worker each, and what is spoken on them.

mod stream;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
pub use stream::Stream;
use topology::AppId;

/// Connections that wait to be accepted: a second's worth at a few thousand per second, and what the
/// kernel's default `somaxconn` allows.
const BACKLOG: i32 = 4096;

/// What an HTTP connection needs to know of its listener.
#[derive(Debug)]
pub struct HttpListener {
    pub name: Arc<str>,
    pub is_tls: bool,
    /// Stands for the host that an HTTP/1.0 request does not name.
    pub authority: String,
}

#[derive(Debug)]
pub struct TcpListenerContext {
    pub name: Arc<str>,
    pub app: AppId,
}

/// One worker's socket of a listener.
#[derive(Debug)]
pub struct Bound {
    pub socket: TcpListener,
    pub speaks: Speaks,
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Speaks {
    Http { name: Arc<str>, tls: Option<Arc<ServerConfig>>, authority: String },
    Tcp { name: Arc<str>, app: AppId },
}

/// A socket that shares its address with the other workers' (SO_REUSEPORT): the kernel spreads
/// connections over them.
///
/// # Errors
/// The system's error, for instance that another process holds the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // A v4 listener of the same port is a listener of its own.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
