//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext};
use crate::proxy::{Client, connection, tcp, timeouts};
use crate::worker::{Deadline, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http { listener: Rc<HttpListener>, tls: Option<Arc<ServerConfig>> },
    Tcp(Rc<TcpListenerContext>),
}

impl From<Speaks> for Handler {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Http { name, tls, authority } => {
                Self::Http { listener: Rc::new(HttpListener { name, is_tls: tls.is_some(), authority }), tls }
            }
            Speaks::Tcp { name, app } => Self::Tcp(Rc::new(TcpListenerContext { name, app })),
        }
    }
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
                    Some(config) => match Box::pin(handshake(config, stream, &deadline)).await {
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

async fn handshake(config: &Arc<ServerConfig>, socket: TcpStream, deadline: &Deadline) -> Option<Stream> {
    deadline.set(timeouts::HANDSHAKE);
    let mut accepting = pin!(Stream::accept(socket, config.clone()));
    deadline.bound(|context| accepting.as_mut().poll(context)).await.ok()?.ok()
}
