//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::listener::tls::ClientIdentity;
use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext};
use crate::metrics::ListenerCells;
use crate::proxy::http1::connection;
use crate::proxy::{Client, Http1, Origin, http2, tcp, timeouts};
use crate::worker::{Deadline, Ending, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http(Rc<HttpListener>),
    Tcp(Rc<TcpListenerContext>),
}

impl Handler {
    pub fn new(speaks: Speaks, ending: Rc<Ending>) -> Self {
        match speaks {
            Speaks::Http { name, tls, http2, authority, https } => {
                Self::Http(Rc::new(HttpListener { name, tls, http2, authority, https, ending }))
            }
            Speaks::Tcp { name, app } => Self::Tcp(Rc::new(TcpListenerContext { name, app, ending })),
        }
    }

    pub fn name(&self) -> &Arc<str> {
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
        cells: &ListenerCells,
    ) {
        match self {
            Self::Tcp(listener) => {
                Box::pin(tcp::serve(stream, peer, worker, listener.clone(), deadline)).await;
            }
            Self::Http(listener) => {
                let stream = match &listener.tls {
                    None => Stream::Plain(stream),
                    Some(tls) => match Box::pin(handshake(tls.config(), stream, &deadline)).await {
                        Some(stream) => stream,
                        None => return cells.handshake_failures.increment(),
                    },
                };
                let is_http2 = stream.alpn() == Some(HTTP2);
                let origin = Rc::new(Origin {
                    listener: listener.clone(),
                    peer,
                    is_trusted: worker.shared.is_trusted(peer.ip()),
                    server_name: stream.server_name().map(Box::from),
                    identity: stream.peer_certificates().and_then(ClientIdentity::of),
                });
                if is_http2 {
                    Box::pin(http2::connection::serve(stream, Bytes::new(), worker, origin, deadline)).await;
                } else {
                    let wire = Http1 { stream, received: None };
                    connection::serve(Client { worker, origin, deadline, wire }).await;
                }
            }
        }
    }
}

/// HTTP/2's name in ALPN (RFC 9113 section 3.1).
const HTTP2: &[u8] = b"h2";

async fn handshake(config: Arc<ServerConfig>, socket: TcpStream, deadline: &Deadline) -> Option<Stream> {
    deadline.set(timeouts::HANDSHAKE);
    let mut accepting = pin!(Stream::accept(socket, config));
    deadline.bound(|context| accepting.as_mut().poll(context)).await.ok()?.ok()
}
