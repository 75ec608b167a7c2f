//! Listening sockets, one per worker each, and what is spoken on them.

mod stream;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
pub use stream::Stream;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use topology::AppId;

use crate::proxy::connection::Connection;
use crate::proxy::{tcp, timeouts};
use crate::worker::{Deadline, Worker};

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
    pub handler: HandlerSeed,
}

/// How a listener's connections are served; every worker makes its own [`Handler`] of it.
#[derive(Debug, Clone)]
pub enum HandlerSeed {
    Http { name: Arc<str>, tls: Option<Arc<ServerConfig>>, authority: String },
    Tcp { name: Arc<str>, app: AppId },
}

impl HandlerSeed {
    pub fn localize(self) -> Rc<Handler> {
        Rc::new(match self {
            Self::Http { name, tls, authority } => Handler::Http {
                listener: Rc::new(HttpListener { name, is_tls: tls.is_some(), authority }),
                tls: tls.map(TlsAcceptor::from),
            },
            Self::Tcp { name, app } => Handler::Tcp(Rc::new(TcpListenerContext { name, app })),
        })
    }
}

pub enum Handler {
    Http { listener: Rc<HttpListener>, tls: Option<TlsAcceptor> },
    Tcp(Rc<TcpListenerContext>),
}

impl Handler {
    pub fn name(&self) -> &str {
        match self {
            Self::Http { listener, .. } => &listener.name,
            Self::Tcp(listener) => &listener.name,
        }
    }

    pub async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        worker: Rc<Worker>,
        deadline: Deadline,
        position: usize,
    ) {
        match self {
            Self::Tcp(listener) => {
                Box::pin(tcp::serve(stream, peer, worker, listener.clone(), deadline)).await;
            }
            Self::Http { listener, tls } => {
                let stream = match tls {
                    None => Stream::Plain(stream),
                    Some(acceptor) => match Box::pin(handshake(acceptor, stream, &deadline)).await {
                        Some(stream) => stream,
                        None => return worker.metrics.listeners[position].1.handshake_failures.increment(),
                    },
                };
                let is_trusted = worker.shared.is_trusted(peer.ip());
                let listener = listener.clone();
                Connection { stream, worker, listener, peer, is_trusted, deadline, received: None }
                    .serve()
                    .await;
            }
        }
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream, deadline: &Deadline) -> Option<Stream> {
    deadline.set(timeouts::HANDSHAKE);
    let mut accepting = acceptor.accept(stream);
    let accepted = deadline.bound(|context| match std::pin::Pin::new(&mut accepting).poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => Poll::Pending,
    });
    accepted.await.ok()?.ok().map(|stream| Stream::Tls(Box::new(stream)))
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
