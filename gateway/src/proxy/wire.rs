//! What a request asks of the protocol that its client speaks. Everything else on its way is the same
//! for HTTP/1.1 ([`super::http1`]) and HTTP/2 ([`super::http2`]).

use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use super::answer::Answer;
use super::client::Client;
use super::facts::{After, Facts};
use super::http2::Account;
use super::relay::{Decoder, Relay};
use crate::listener::{HttpListener, Stream};
use crate::message::{Framing, ResponseEdits, ResponseHead};
use crate::reason::Reason;
use crate::worker::Buffer;

/// Where a body comes from.
#[derive(Debug)]
pub enum Source<'a> {
    /// Bytes, some of which may have been received already.
    Stream { stream: &'a mut Stream, carried: &'a mut Option<Buffer> },
    /// An HTTP/2 stream, which knows where the body ends.
    Frames(&'a mut RecvStream),
    /// All of it is there.
    Memory(&'a mut Bytes),
    /// Nowhere: there is no body.
    Ended,
}

/// Where a body goes.
#[derive(Debug)]
pub enum Sink<'a> {
    Stream(&'a mut Stream),
    Frames {
        stream: &'a mut SendStream<Bytes>,
        /// Of a client, who gets credit for what it takes.
        account: Option<&'a Account>,
    },
    /// Nobody wants it.
    Nowhere,
    /// Nothing has begun that could take a body.
    Closed,
}

/// The client is gone, or what it was to be told cannot be told.
#[derive(Debug)]
pub struct Gone;

/// Bytes that went to the client: all of them, and those of them that are content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub bytes: u64,
    pub body: u64,
}

pub trait Wire: Sized {
    /// How much of a response is read at once, and held while the client does not take it.
    const READ: usize;

    /// Where the request's body comes from.
    fn source(&mut self) -> Source<'_>;

    /// Where the response's body goes, once [`Self::respond`] or [`Self::switch`] has begun one.
    fn sink(&mut self) -> Sink<'_>;

    /// The request's body on its way: to an endpoint that is sent `head` first, or to one that gets frames.
    fn upload(&self, framing: Framing, to: Upward) -> Relay;

    /// Ready with true when the client has given the request up, with false when that can no longer be
    /// told without reading.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<bool>;

    /// Begins the final response; what is returned passes its body on.
    ///
    /// # Errors
    /// [`Gone`].
    fn respond(
        &mut self,
        reply: &Reply<'_>,
        keep_alive: bool,
        facts: &Facts,
        listener: &HttpListener,
    ) -> Result<Relay, Gone>;

    /// Begins a tunnel: the endpoint has agreed to leave HTTP.
    ///
    /// # Errors
    /// [`Gone`].
    fn switch(&mut self, reply: Option<&Reply<'_>>, facts: &Facts) -> Result<Relay, Gone>;

    /// Passes an interim response on, if the client can understand it.
    fn interim(
        client: &mut Client<Self>,
        reply: &Reply<'_>,
        facts: &Facts,
    ) -> impl Future<Output = Result<Sent, Gone>>;

    /// Says something of our own.
    fn answer(
        client: &mut Client<Self>,
        answer: Answer,
        facts: &Facts,
        keep_alive: bool,
    ) -> impl Future<Output = Result<Sent, Gone>>;

    /// What becomes of the connection after a response that ends it.
    fn after_last(&self, has_body: bool, facts: &Facts) -> After;

    /// Tells the client that nothing was done, so that it may ask again whatever it asked; whether its
    /// protocol has a way to say that (RFC 9113 section 8.7).
    fn decline(&mut self) -> bool;

    /// Makes sure that a cut response is not taken for a whole one.
    fn abort(&mut self, facts: &Facts, reason: Reason);
}

/// A response's head, as it came from an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    pub head: &'a ResponseHead,
    pub bytes: &'a [u8],
    /// What of its body has come with it.
    pub arrived: usize,
    /// Whether its body comes in frames.
    pub is_framed: bool,
    /// What filters change in it.
    pub edits: Option<ResponseEdits<'a>>,
}

impl Reply<'_> {
    /// Finds the end of what follows the head and is delimited as `framing` says.
    pub fn decoder(&self, framing: Framing) -> Decoder {
        if self.is_framed { Decoder::frames(framing) } else { Decoder::of(framing) }
    }
}

/// What an endpoint is sent a request as.
#[derive(Debug)]
pub enum Upward {
    Http1 { head: Vec<u8> },
    Http2,
}
