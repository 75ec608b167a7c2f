//! Listening sockets, one per worker each, and what is spoken on them.

mod stream;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
pub use stream::Stream;
use tls::ServerTls;
use tokio::sync::watch;
use topology::AppId;

use crate::config::HttpsConfig;
use crate::metrics::ListenerCells;
use crate::worker::Ending;

/// Connections that wait to be accepted: a second's worth at a few thousand per second, and what the
/// kernel's default `somaxconn` allows.
const BACKLOG: i32 = 4096;

/// What an HTTP connection needs to know of its listener.
#[derive(Debug)]
pub struct HttpListener {
    pub name: Arc<str>,
    /// `None`: clear text.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// Stands for the host that an HTTP/1.0 request does not name.
    pub authority: String,
    pub https: HttpsPolicy,
    pub ending: Rc<Ending>,
}

impl HttpListener {
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// How clear text is left for https, as requests need it.
#[derive(Debug, Clone)]
pub struct HttpsPolicy {
    /// Every request in clear text is sent to https.
    pub redirect: bool,
    /// Where https is, for redirects.
    pub port: u16,
    /// Of TLS listeners: the `Strict-Transport-Security` line for their responses (RFC 6797).
    pub hsts: Option<Arc<[u8]>>,
}

impl From<&HttpsConfig> for HttpsPolicy {
    fn from(config: &HttpsConfig) -> Self {
        let line = |age: Duration| format!("Strict-Transport-Security: max-age={}\r\n", age.as_secs());
        let hsts = config.hsts.map(|age| line(age).into_bytes().into());
        Self { redirect: config.redirect, port: config.port, hsts }
    }
}

#[derive(Debug)]
pub struct TcpListenerContext {
    pub name: Arc<str>,
    pub app: AppId,
    pub ending: Rc<Ending>,
}

/// A listener from its opening to its end, whatever its name and settings become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerId(pub u32);

/// One worker's socket of a listener.
#[derive(Debug)]
pub struct Bound {
    pub id: ListenerId,
    pub cells: Arc<ListenerCells>,
    /// Dropped after the socket: when all of a listener's are gone, its address is free.
    pub held: watch::Sender<()>,
    pub socket: TcpListener,
    pub speaks: Speaks,
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Speaks {
    Http { name: Arc<str>, tls: Option<Arc<ServerTls>>, http2: bool, authority: String, https: HttpsPolicy },
    Tcp { name: Arc<str>, app: AppId },
}

/// Sockets that share an address (SO_REUSEPORT): the kernel spreads connections over them. None
/// accepts before [`listen`].
///
/// # Errors
/// The system's error, for instance that another process listens there.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
    // Without SO_REUSEPORT this fails where a listener that shares the port would silently take half
    // of another gateway's connections.
    let exclusive = socket_for(address)?;
    exclusive.bind(&address.into())?;
    // With port 0 the shared sockets take the port that this one got.
    let address = local_address(&exclusive)?;
    drop(exclusive);
    let shared = || {
        let socket = socket_for(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    (0..count).map(|_| shared()).collect()
}

/// # Errors
/// The system's error, for instance that another process has begun to listen there.
pub fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)
}

pub fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn socket_for(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // A v4 listener of the same port is a listener of its own.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
