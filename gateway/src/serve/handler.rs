//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::listener::proxy_protocol::{self, Mode, Origin};
use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext, UdpListenerContext};
use crate::proxy::{Client, connection, tcp, timeouts};
use crate::worker::{Deadline, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http { listener: Rc<HttpListener>, tls: Option<TlsAcceptor> },
    Tcp(Rc<TcpListenerContext>),
    Udp(Rc<UdpListenerContext>),
}

impl From<Speaks> for Handler {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Http { name, tls, authority, proxy_protocol } => Self::Http {
                listener: Rc::new(HttpListener { name, is_tls: tls.is_some(), authority, proxy_protocol }),
                tls: tls.map(TlsAcceptor::from),
            },
            Speaks::Tcp { name, settings, proxy_protocol } => {
                Self::Tcp(Rc::new(TcpListenerContext { name, settings, proxy_protocol }))
            }
            Speaks::Udp { name, settings } => Self::Udp(Rc::new(UdpListenerContext { name, settings })),
        }
    }
}

impl Handler {
    pub fn name(&self) -> &str {
        match self {
            Self::Http { listener, .. } => &listener.name,
            Self::Tcp(listener) => &listener.name,
            Self::Udp(listener) => &listener.name,
        }
    }

    fn proxy_protocol(&self) -> Mode {
        match self {
            Self::Http { listener, .. } => listener.proxy_protocol,
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
        position: usize,
    ) -> Option<Origin> {
        let mode = self.proxy_protocol();
        let trust = worker.shared.trust(peer.ip());
        match proxy_protocol::receive(mode, stream, peer, trust, deadline).await {
            Ok(origin) => Some(origin),
            Err(reason) => {
                tracing::debug!(listener = self.name(), %peer, reason = reason.as_str(), "closing");
                worker.metrics.listeners[position].1.failures.count(reason);
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
        position: usize,
    ) {
        let mut origin = Origin { peer, destination: None };
        if self.proxy_protocol() != Mode::Off {
            // Boxed: it is over before the long part of the connection's life begins.
            match Box::pin(self.origin(&stream, peer, &worker, &deadline, position)).await {
                Some(found) => origin = found,
                None => return,
            }
        }
        let peer = origin.peer;
        match self {
            Self::Tcp(listener) => {
                let metrics = worker.metrics.clone();
                let cells = &metrics.listeners[position].1;
                Box::pin(tcp::serve(stream, origin, worker, listener.clone(), deadline, cells)).await;
            }
            // It has no connections.
            Self::Udp(_) => {}
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
                connection::serve(Client {
                    stream,
                    worker,
                    listener,
                    peer,
                    is_trusted,
                    deadline,
                    received: None,
                })
                .await;
            }
        }
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream, deadline: &Deadline) -> Option<Stream> {
    deadline.set(timeouts::HANDSHAKE);
    let mut accepting = acceptor.accept(stream);
    let accepted = deadline.bound(|context| Pin::new(&mut accepting).poll(context));
    accepted.await.ok()?.ok().map(|stream| Stream::Tls(Box::new(stream)))
}
