//! Listening sockets, one per worker each, and what is spoken on them.

pub mod client_hello;
pub mod inherited;
mod limits;
pub mod proxy_protocol;
mod stream;
mod stream_settings;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
pub use limits::Limits;
use socket2::{Domain, Protocol, Socket, Type};
pub use stream::{Stream, keep_alive};
pub use stream_settings::{StreamRoutes, TcpSettings, UdpSettings};
use tls::ServerTls;
use tokio::sync::watch;

use proxy_protocol::Mode;

use crate::config::HttpsConfig;
use crate::metrics::ListenerShare;
use crate::worker::Ending;

/// Connections that wait to be accepted: a second's worth at a few thousand per second, and what the
/// kernel's default `somaxconn` allows.
const BACKLOG: i32 = 4096;

/// What an HTTP connection needs to know of its listener.
#[derive(Debug)]
pub struct HttpListener {
    pub settings: HttpSettings,
    pub ending: Rc<Ending>,
    pub cells: ListenerShare,
}

impl Deref for HttpListener {
    type Target = HttpSettings;

    fn deref(&self) -> &HttpSettings {
        &self.settings
    }
}

/// How clear text is left for https, as requests need it.
#[derive(Debug, Clone)]
pub struct HttpsPolicy {
    /// Every request in clear text is sent to https.
    pub redirect: bool,
    /// Where https is, for redirects.
    pub port: u16,
    /// Of TLS listeners.
    pub hsts: Option<Arc<Hsts>>,
}

/// Strict-Transport-Security (RFC 6797), as either version of HTTP sends it.
#[derive(Debug)]
pub struct Hsts {
    /// The field's whole line.
    pub line: Box<[u8]>,
    pub value: HeaderValue,
}

impl Hsts {
    fn lasting(age: Duration) -> Self {
        let value = format!("max-age={}", age.as_secs());
        let line = format!("Strict-Transport-Security: {value}\r\n").into_bytes().into();
        Self { line, value: HeaderValue::try_from(value).expect("a name, a sign and a number") }
    }
}

impl From<&HttpsConfig> for HttpsPolicy {
    fn from(config: &HttpsConfig) -> Self {
        let hsts = config.hsts.map(|age| Arc::new(Hsts::lasting(age)));
        Self { redirect: config.redirect, port: config.port, hsts }
    }
}

#[derive(Debug)]
pub struct TcpListenerContext {
    pub name: Arc<str>,
    pub settings: Arc<TcpSettings>,
    pub proxy_protocol: Mode,
    pub ending: Rc<Ending>,
}

#[derive(Debug)]
pub struct UdpListenerContext {
    pub name: Arc<str>,
    pub settings: Arc<UdpSettings>,
    pub ending: Rc<Ending>,
}

/// A listener from its opening to its end, whatever its name and settings become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerId(pub u32);

/// One worker's socket of a listener.
#[derive(Debug)]
pub struct Bound {
    pub id: ListenerId,
    pub cells: ListenerShare,
    /// Dropped after the socket: when all of a listener's are gone, its address is free.
    pub held: watch::Sender<()>,
    pub socket: BoundSocket,
    pub speaks: Speaks,
}

#[derive(Debug)]
pub enum BoundSocket {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl BoundSocket {
    pub fn new(socket: Socket, speaks: &Speaks) -> Self {
        match speaks {
            Speaks::Http { .. } | Speaks::Tcp { .. } => Self::Stream(socket.into()),
            Speaks::Udp { .. } => Self::Datagram(socket.into()),
        }
    }
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Speaks {
    Http(HttpSettings),
    Tcp { name: Arc<str>, settings: Arc<TcpSettings>, proxy_protocol: Mode, limits: Arc<Limits> },
    Udp { name: Arc<str>, settings: Arc<UdpSettings> },
}

impl Speaks {
    pub fn limits(&self) -> Arc<Limits> {
        match self {
            Self::Http(settings) => settings.limits.clone(),
            Self::Tcp { limits, .. } => limits.clone(),
            // Its sessions have a limit of their own.
            Self::Udp { .. } => Arc::default(),
        }
    }
}

/// What an HTTP listener is set up with.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub name: Arc<str>,
    /// `None`: clear text.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    pub address: SocketAddr,
    /// The address as text: stands for the host that an HTTP/1.0 request does not name.
    pub authority: String,
    pub https: HttpsPolicy,
    pub proxy_protocol: Mode,
    pub limits: Arc<Limits>,
}

impl HttpSettings {
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// What a socket is bound for: TCP and UDP have ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Stream,
    Datagram,
}

/// Whether a socket may be bound to an address that this host does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It must have it: a mistyped address is a mistake.
    #[default]
    Required,
    /// It may get it later (IP_FREEBIND, which needs no capability): a virtual IP that another gateway holds.
    Optional,
}

/// An HTTP listener that is open, as far as it decides over requests.
#[derive(Debug, Clone)]
pub struct Doorway {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub is_tls: bool,
    pub https: HttpsPolicy,
    pub limits: Arc<Limits>,
}

/// Sockets that share an address (SO_REUSEPORT): the kernel spreads connections over them. None
/// accepts before [`listen`]; datagrams gather at once.
///
/// # Errors
/// The system's error, for instance that another process listens there.
pub fn bind(
    address: SocketAddr,
    count: usize,
    transport: Transport,
    presence: Presence,
) -> io::Result<Vec<Socket>> {
    // Without SO_REUSEPORT this fails where a listener that shares the port would silently take half
    // of another gateway's connections.
    let exclusive = socket_for(address, transport, presence)?;
    exclusive.bind(&address.into())?;
    // With port 0 the shared sockets take the port that this one got.
    let address = local_address(&exclusive)?;
    drop(exclusive);
    (0..count).map(|_| join_at(address, transport, presence)).collect()
}

/// # Errors
/// The system's error, for instance that another process has begun to listen there.
pub fn listen(socket: &Socket, transport: Transport) -> io::Result<()> {
    match transport {
        Transport::Stream => socket.listen(BACKLOG),
        Transport::Datagram => Ok(()),
    }
}

pub fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// One more socket at an address that we have: SO_REUSEPORT, which the kernel grants to one user's
/// processes among themselves.
///
/// # Errors
/// The system's error, for instance that the other sockets there are no shared ones.
pub fn join(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    // Whoever has opened the others has decided whether the address must be there.
    join_at(address, transport, Presence::Optional)
}

fn join_at(address: SocketAddr, transport: Transport, presence: Presence) -> io::Result<Socket> {
    let socket = socket_for(address, transport, presence)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn socket_for(address: SocketAddr, transport: Transport, presence: Presence) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Stream => (Type::STREAM, Protocol::TCP),
        Transport::Datagram => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // A v4 listener of the same port is a listener of its own.
        socket.set_only_v6(true)?;
    }
    if transport == Transport::Stream {
        // Of datagram sockets it would let two processes share a port.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it, which saves a system call for each.
        socket.set_tcp_nodelay(true)?;
    }
    if presence == Presence::Optional {
        if address.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
