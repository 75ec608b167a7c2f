//! Which app a connection is for. Where server names decide, the client's first message is read and
//! kept for the endpoint; TLS itself is left alone.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use topology::AppId;

use super::Connection;
use crate::listener::Stream;
use crate::listener::client_hello::{FirstBytes, read_client_hello};
use crate::proxy::fill::{poll_fill, poll_more};
use crate::proxy::timeouts;
use crate::reason::Reason;
use crate::worker::{Buffer, Buffers};

/// Fatal alerts as TLS 1.2 and 1.3 send them before anything is agreed (RFC 8446 section 6).
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

/// A connection that is to be carried to an app.
pub struct Arrival {
    pub stream: Stream,
    /// What was read of it to find that out.
    pub received: Option<Buffer>,
    pub server_name: Option<String>,
    pub app: AppId,
}

/// One that comes to no app.
pub enum Failed {
    Handshake,
    /// With the name that was asked for.
    Route(Reason, Option<String>),
}

impl Connection<'_> {
    pub async fn arrive(&self, stream: TcpStream) -> Result<Arrival, Failed> {
        let settings = &self.listener.settings;
        if settings.routes.are_by_name() {
            return Box::pin(self.read_name(stream)).await;
        }
        let stream = match &settings.tls {
            None => Stream::Plain(stream),
            Some(tls) => Box::pin(self.handshake(&tls.config(), stream)).await.ok_or(Failed::Handshake)?,
        };
        let app = settings.routes.find(None).cloned();
        let app = app.ok_or(Failed::Route(Reason::UnknownHost, None))?;
        Ok(Arrival { stream, received: None, server_name: None, app })
    }

    async fn handshake(&self, config: &Arc<ServerConfig>, socket: TcpStream) -> Option<Stream> {
        self.deadline.set(timeouts::HANDSHAKE);
        let mut accepting = pin!(Stream::accept(socket, config.clone()));
        self.deadline.bound(|context| accepting.as_mut().poll(context)).await.ok()?.ok()
    }

    async fn read_name(&self, mut stream: TcpStream) -> Result<Arrival, Failed> {
        let mut held = None;
        let read = self.read_hello(&mut stream, &mut held).await;
        let routed = read.and_then(|name| match self.listener.settings.routes.find(name.as_deref()) {
            Some(app) => Ok((name, app.clone())),
            None => Err(Failed::Route(Reason::UnknownHost, name)),
        });
        match routed {
            Ok((server_name, app)) => {
                Ok(Arrival { stream: Stream::Plain(stream), received: held, server_name, app })
            }
            Err(failed) => {
                held.into_iter().for_each(|buffer| self.worker.buffers.put(buffer));
                alert(&stream, &failed);
                Err(failed)
            }
        }
    }

    /// The server name that a TLS client asks for; whatever else is spoken has none. What was read is in
    /// `held`, which is no larger than it needs to be while the client is waited for.
    async fn read_hello(
        &self,
        stream: &mut TcpStream,
        held: &mut Option<Buffer>,
    ) -> Result<Option<String>, Failed> {
        let buffers = &self.worker.buffers;
        // A hello is sent at once; whoever is slower than a handshake may be does not mean one.
        self.deadline.set(timeouts::HANDSHAKE);
        loop {
            let reading = self.deadline.bound(|context| poll_into(context, stream, held, buffers)).await;
            let received = held.as_ref().map_or(&[][..], |buffer| buffer.filled());
            let reason = match reading {
                Ok(Ok(true)) => match read_client_hello(received) {
                    FirstBytes::Hello(hello) => return Ok(hello.server_name),
                    FirstBytes::NotTls => return Ok(None),
                    FirstBytes::NeedMore => {
                        *held = held.take().map(|buffer| buffers.shrink(buffer, 0));
                        continue;
                    }
                    FirstBytes::Malformed => Reason::BadRequest,
                },
                Ok(_) => Reason::ClientAbort,
                Err(_) if self.listener.ending.is_aborting() => Reason::Shutdown,
                Err(_) => Reason::HeaderTimeout,
            };
            return Err(Failed::Route(reason, None));
        }
    }
}

/// Adds what has arrived to `held`; false at the end of the stream.
fn poll_into(
    context: &mut Context<'_>,
    stream: &mut TcpStream,
    held: &mut Option<Buffer>,
    buffers: &Buffers,
) -> Poll<io::Result<bool>> {
    let Some(mut buffer) = held.take() else {
        *held = ready!(poll_fill(context, stream, buffers, false))?;
        return Poll::Ready(Ok(held.is_some()));
    };
    if buffer.room().is_empty() {
        buffer = buffers.make_room(buffer, 0);
    }
    let polled = poll_more(context, stream, &mut buffer);
    *held = Some(buffer);
    polled.map_ok(|count| count > 0)
}

/// Tells a TLS client what is wrong, as far as its socket takes seven bytes at once.
fn alert(stream: &TcpStream, failed: &Failed) {
    let description = match failed {
        Failed::Route(Reason::UnknownHost, _) => UNRECOGNIZED_NAME,
        Failed::Route(Reason::BadRequest, _) => DECODE_ERROR,
        _ => return,
    };
    const ALERT_RECORD: u8 = 21;
    const FATAL: u8 = 2;
    let _ = stream.try_write(&[ALERT_RECORD, 3, 3, 0, 2, FATAL, description]);
}
