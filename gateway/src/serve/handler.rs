//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::accept::Current;
use crate::listener::proxy_protocol::{self, Mode};
use crate::listener::tls::ClientIdentity;
use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext, UdpListenerContext};
use crate::metrics::{ListenerCells, ListenerShare};
use crate::proxy::http1::connection;
use crate::proxy::{Client, Http1, Origin, http2, tcp, timeouts};
use crate::worker::{Deadline, Ending, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http(Rc<HttpListener>),
    Tcp(Rc<TcpListenerContext>),
    Udp(Rc<UdpListenerContext>),
}

impl Handler {
    pub fn new(speaks: Speaks, ending: Rc<Ending>, cells: ListenerShare) -> Self {
        match speaks {
            Speaks::Http(settings) => Self::Http(Rc::new(HttpListener { settings, ending, cells })),
            Speaks::Tcp { name, settings, proxy_protocol, .. } => {
                Self::Tcp(Rc::new(TcpListenerContext { name, settings, proxy_protocol, ending }))
            }
            Speaks::Udp { name, settings } => {
                Self::Udp(Rc::new(UdpListenerContext { name, settings, ending }))
            }
        }
    }

    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Http(listener) => &listener.name,
            Self::Tcp(listener) => &listener.name,
            Self::Udp(listener) => &listener.name,
        }
    }

    pub fn proxy_protocol(&self) -> Mode {
        match self {
            Self::Http(listener) => listener.proxy_protocol,
            Self::Tcp(listener) => listener.proxy_protocol,
            Self::Udp(_) => Mode::Off,
        }
    }

    /// Where a connection comes from; `None`, counted, when it does not say so as it must.
    async fn origin(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
        worker: &Worker,
        deadline: &Deadline,
        cells: &ListenerCells,
    ) -> Option<proxy_protocol::Origin> {
        let mode = self.proxy_protocol();
        let trust = worker.shared.trust(peer.ip());
        match proxy_protocol::receive(mode, stream, peer, trust, deadline).await {
            Ok(origin) => Some(origin),
            Err(reason) => {
                tracing::debug!(listener = %self.name(), %peer, reason = reason.as_str(), "closing");
                cells.failures.count(reason);
                None
            }
        }
    }

    pub async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        worker: Rc<Worker>,
        deadline: Deadline,
        current: &Current,
    ) {
        let cells = &*current.cells;
        let mut arrived = proxy_protocol::Origin { peer, destination: None };
        // The client that a header names counts as long as its connection lives.
        let mut _named = None;
        if self.proxy_protocol() != Mode::Off {
            // Boxed: it is over before the long part of the connection's life begins.
            match Box::pin(self.origin(&stream, peer, &worker, &deadline, cells)).await {
                Some(found) => arrived = found,
                None => return,
            }
            if arrived.peer != peer || self.proxy_protocol() == Mode::Required {
                match current.count_client(&worker, arrived.peer.ip()) {
                    Ok(counted) => _named = counted,
                    Err(reason) => return cells.refused.count(reason),
                }
            }
        }
        let peer = arrived.peer;
        match self {
            Self::Tcp(listener) => {
                Box::pin(tcp::serve(stream, arrived, worker, listener.clone(), deadline, cells)).await;
            }
            // It has no connections.
            Self::Udp(_) => {}
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
                    destination: arrived.destination,
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
