//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::listener::tls::ClientIdentity;
use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext};
use crate::proxy::{Client, connection, tcp, timeouts};
use crate::worker::{Deadline, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http(Rc<HttpListener>),
    Tcp(Rc<TcpListenerContext>),
}

impl From<Speaks> for Handler {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Http { name, tls, authority, https } => {
                Self::Http(Rc::new(HttpListener { name, tls, authority, https }))
            }
            Speaks::Tcp { name, app } => Self::Tcp(Rc::new(TcpListenerContext { name, app })),
        }
    }
}

impl Handler {
    pub fn name(&self) -> &str {
        match self {
            Self::Http(listener) => &listener.name,
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
            Self::Http(listener) => {
                let secured = match &listener.tls {
                    None => Some((Stream::Plain(stream), TlsFacts::default())),
                    Some(tls) => Box::pin(handshake(tls.config(), stream, &deadline)).await,
                };
                let Some((stream, TlsFacts { server_name, identity })) = secured else {
                    return worker.metrics.listeners[position].1.handshake_failures.increment();
                };
                let is_trusted = worker.shared.is_trusted(peer.ip());
                let listener = listener.clone();
                connection::serve(Client {
                    stream,
                    worker,
                    listener,
                    peer,
                    is_trusted,
                    server_name,
                    identity,
                    deadline,
                    received: None,
                })
                .await;
            }
        }
    }
}

/// What a handshake told of the client; nothing of it changes while the connection lasts.
#[derive(Debug, Default)]
struct TlsFacts {
    server_name: Option<Box<str>>,
    identity: Option<Rc<ClientIdentity>>,
}

impl TlsFacts {
    fn of(connection: &ServerConnection) -> Self {
        let identity = connection.peer_certificates().and_then(ClientIdentity::of).map(Rc::new);
        Self { server_name: connection.server_name().map(Box::from), identity }
    }
}

async fn handshake(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    deadline: &Deadline,
) -> Option<(Stream, TlsFacts)> {
    deadline.set(timeouts::HANDSHAKE);
    let mut accepting = TlsAcceptor::from(config).accept(stream);
    let accepted = deadline.bound(|context| Pin::new(&mut accepting).poll(context));
    let stream = accepted.await.ok()?.ok()?;
    let facts = TlsFacts::of(stream.get_ref().1);
    Some((Stream::Tls(Box::new(stream)), facts))
}
