//! A client that speaks HTTP/2: every stream is a request of its own.

pub mod connection;
mod meter;

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header;

use super::answer::{Answer, grpc_status};
use super::client::Client;
use super::date;
use super::facts::{After, Facts};
use super::relay::{Decoder, FRAMED_READ, Relay};
use super::wire::{Gone, Reply, Sent, Sink, Source, Upward, Wire};
use crate::listener::HttpListener;
use crate::message::{Framing, http2};
use crate::reason::Reason;

pub use meter::Account;

/// One stream.
#[derive(Debug)]
pub struct Http2 {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// Once the response has begun.
    send: Option<SendStream<Bytes>>,
    /// Of its connection.
    account: Rc<Account>,
}

impl Http2 {
    fn begin(&mut self, head: http::Response<()>, is_all: bool) -> Result<(), Gone> {
        self.send = Some(self.respond.send_response(head, is_all).map_err(|_| Gone)?);
        Ok(())
    }
}

impl Wire for Http2 {
    const READ: usize = FRAMED_READ;

    fn source(&mut self) -> Source<'_> {
        Source::Frames(&mut self.body)
    }

    fn sink(&mut self) -> Sink<'_> {
        let account = Some(&*self.account);
        self.send.as_mut().map_or(Sink::Closed, |stream| Sink::Frames { stream, account })
    }

    fn upload(&self, framing: Framing, to: Upward) -> Relay {
        Relay::upward(Decoder::frames(framing), framing, to)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let polled = match &mut self.send {
            Some(send) => send.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        polled.map(|_| true)
    }

    fn respond(
        &mut self,
        reply: &Reply<'_>,
        _keep_alive: bool,
        _facts: &Facts,
        listener: &HttpListener,
    ) -> Result<Relay, Gone> {
        let decoder = reply.decoder(reply.head.framing);
        let mut head = http2::write_response(reply.head, reply.bytes, reply.edits).map_err(|_| Gone)?;
        if let Some(hsts) = &listener.https.hsts {
            head.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.value.clone());
        }
        date::add(&mut head);
        self.begin(head, matches!(decoder, Decoder::Done))?;
        Ok(Relay::to_frames(decoder))
    }

    fn switch(&mut self, reply: Option<&Reply<'_>>, _facts: &Facts) -> Result<Relay, Gone> {
        let mut head = match reply {
            Some(reply) => http2::write_switched(reply.head, reply.bytes).map_err(|_| Gone)?,
            None => http::Response::new(()),
        };
        date::add(&mut head);
        self.begin(head, false)?;
        let decoder = reply.map_or(Decoder::UntilClose, |reply| reply.decoder(Framing::UntilClose));
        Ok(Relay::to_frames(decoder))
    }

    async fn interim(client: &mut Client<Self>, reply: &Reply<'_>, _facts: &Facts) -> Result<Sent, Gone> {
        let head = http2::write_interim(reply.head, reply.bytes).map_err(|_| Gone)?;
        client.wire.respond.send_informational(head).map_err(|_| Gone)?;
        Ok(Sent::default())
    }

    async fn answer(
        client: &mut Client<Self>,
        answer: Answer,
        facts: &Facts,
        _keep_alive: bool,
    ) -> Result<Sent, Gone> {
        let (head, body) = answer.into_http2(facts, client.origin.listener.https.hsts.as_deref());
        let length = body.len() as u64;
        client.wire.begin(head, body.is_empty())?;
        if let Some(send) = client.wire.send.as_mut().filter(|_| !body.is_empty()) {
            // A few lines: they wait with the stream for its window to open.
            send.send_data(body, true).map_err(|_| Gone)?;
        }
        Ok(Sent { bytes: length, body: length })
    }

    /// A stream ends by itself; the connection goes on.
    fn after_last(&self, _has_body: bool, _facts: &Facts) -> After {
        After::KeepAlive
    }

    fn decline(&mut self) -> bool {
        self.respond.send_reset(h2::Reason::REFUSED_STREAM);
        true
    }

    /// A gRPC client is told why, as long as its stream takes trailers; everybody else sees a reset.
    fn abort(&mut self, facts: &Facts, reason: Reason) {
        let Some(send) = &mut self.send else { return self.respond.send_reset(h2::Reason::INTERNAL_ERROR) };
        let is_told =
            facts.is_grpc && reason != Reason::ClientAbort && send.send_trailers(grpc_status(reason)).is_ok();
        if !is_told {
            let code =
                if reason == Reason::ClientAbort { h2::Reason::CANCEL } else { h2::Reason::INTERNAL_ERROR };
            send.send_reset(code);
        }
    }
}
