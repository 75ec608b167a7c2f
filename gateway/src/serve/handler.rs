//! Who serves a connection, by what its listener speaks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::listener::{HttpListener, Speaks, Stream, TcpListenerContext};
use crate::metrics::ListenerCells;
use crate::proxy::{Client, connection, tcp, timeouts};
use crate::worker::{Deadline, Ending, Worker};

/// One worker's view of a listener.
pub enum Handler {
    Http { listener: Rc<HttpListener>, tls: Option<TlsAcceptor> },
    Tcp(Rc<TcpListenerContext>),
}

impl Handler {
    pub fn new(speaks: Speaks, ending: Rc<Ending>) -> Self {
        match speaks {
            Speaks::Http { name, tls, authority } => Self::Http {
                listener: Rc::new(HttpListener { name, is_tls: tls.is_some(), authority, ending }),
                tls: tls.map(TlsAcceptor::from),
            },
            Speaks::Tcp { name, app } => Self::Tcp(Rc::new(TcpListenerContext { name, app, ending })),
        }
    }

    pub fn name(&self) -> &Arc<str> {
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
        cells: &ListenerCells,
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
                        None => return cells.handshake_failures.increment(),
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
