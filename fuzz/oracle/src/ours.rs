//! The gateway's reading of a connection's bytes, as `proxy::connection` and `proxy::relay` do it, less
//! the sockets.

use gateway::message::chunked::ChunkedDecoder;
use gateway::message::request::MAX_HEAD_BYTES;
use gateway::message::scan::HeadScan;
use gateway::message::{Framing, Malformed, Method, RequestHead, ResponseHead, target};

use crate::pieces::cut;

/// As `proxy::attempt` allows.
const MAX_INTERIM: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    Complete,
    /// The bytes ended first.
    Truncated,
    Refused,
}

#[derive(Debug)]
pub struct Body {
    pub payload: Vec<u8>,
    pub end: BodyEnd,
    /// Of a chunked body: its last chunk and trailer section, as they go on to the next hop.
    pub tail: Vec<u8>,
}

#[derive(Debug)]
pub struct Request {
    pub head: Vec<u8>,
    pub parsed: RequestHead,
    pub body: Body,
    /// Where in the input the next request would begin.
    pub end: usize,
}

#[derive(Debug)]
pub struct Response {
    pub head: Vec<u8>,
    pub parsed: ResponseHead,
    pub body: Body,
    pub end: usize,
}

/// Pipelined requests up to the first that is refused, incomplete, or the last of its connection.
pub fn requests(input: &[u8]) -> Vec<Request> {
    let mut source = Source::new(input);
    let mut requests = Vec::new();
    while let Ok(Some(head)) = source.request_head() {
        let Ok(parsed) = RequestHead::parse(&head) else { break };
        // CONNECT is refused before anything of it is forwarded.
        if route(&parsed, &head).is_err() || parsed.method == Method::Connect {
            break;
        }
        let body = source.body(parsed.framing);
        let goes_on = parsed.keep_alive && body.end == BodyEnd::Complete;
        requests.push(Request { head, parsed, body, end: source.consumed });
        if !goes_on {
            break;
        }
    }
    requests
}

/// The path that routes are compared with has one spelling.
fn route(parsed: &RequestHead, head: &[u8]) -> Result<(), Malformed> {
    let path = target::route_path(parsed.path_and_query.within(head))?;
    let is_origin = parsed.method != Method::Connect;
    assert!(!is_origin || path.starts_with(b"/"), "{}", crate::shown(&path));
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_empty = segment.is_empty() && segments.peek().is_some();
        assert!(!is_origin || (!is_empty && segment != b"." && segment != b".."), "{}", crate::shown(&path));
    }
    Ok(())
}

/// The answer to one request of `method`: interim responses, and the final one unless that is refused.
pub fn response(input: &[u8], method: Method) -> (Vec<(Vec<u8>, ResponseHead)>, Option<Response>) {
    let mut source = Source::new(input);
    let mut interims = Vec::new();
    while let Ok(Some(head)) = source.head() {
        let Ok(parsed) = ResponseHead::parse(&head, method) else { break };
        if !parsed.is_interim() {
            let body = source.body(parsed.framing);
            return (interims, Some(Response { head, parsed, body, end: source.consumed }));
        }
        if parsed.status == 101 || interims.len() == MAX_INTERIM {
            break;
        }
        interims.push((head, parsed));
    }
    (interims, None)
}

struct Source<'a> {
    coming: std::vec::IntoIter<&'a [u8]>,
    received: Vec<u8>,
    consumed: usize,
}

impl<'a> Source<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { coming: cut(input, 0).into_iter(), received: Vec::new(), consumed: 0 }
    }

    fn receive(&mut self) -> bool {
        let piece = self.coming.next();
        self.received.extend_from_slice(piece.unwrap_or_default());
        piece.is_some()
    }

    fn consume(&mut self, bytes: usize) -> Vec<u8> {
        self.consumed += bytes;
        self.received.drain(..bytes).collect()
    }

    fn request_head(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        loop {
            while self.received.starts_with(b"\r\n") {
                self.consume(2);
            }
            if !matches!(self.received.as_slice(), b"" | b"\r") {
                return self.head();
            }
            if !self.receive() {
                return Ok(None);
            }
        }
    }

    /// `None` when the bytes end before it.
    fn head(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let mut scan = HeadScan::default();
        loop {
            match scan.find_end(&self.received)? {
                Some(length) if length <= MAX_HEAD_BYTES => return Ok(Some(self.consume(length))),
                None if self.received.len() < MAX_HEAD_BYTES => {}
                _ => return Err(Malformed::HeadTooLong),
            }
            if !self.receive() {
                return Ok(None);
            }
        }
    }

    fn body(&mut self, framing: Framing) -> Body {
        match framing {
            Framing::None => self.sized(0),
            Framing::Length(length) => self.sized(length),
            Framing::Chunked => self.chunked(),
            Framing::UntilClose => {
                let Body { payload, tail, .. } = self.sized(u64::MAX);
                Body { payload, tail, end: BodyEnd::Complete }
            }
        }
    }

    fn sized(&mut self, length: u64) -> Body {
        while (self.received.len() as u64) < length && self.receive() {}
        let take = length.min(self.received.len() as u64);
        let end = if take == length { BodyEnd::Complete } else { BodyEnd::Truncated };
        Body { payload: self.consume(take as usize), end, tail: Vec::new() }
    }

    fn chunked(&mut self) -> Body {
        let mut decoder = ChunkedDecoder::default();
        let mut payload = Vec::new();
        let end = loop {
            let Ok(decoded) = decoder.decode(&mut self.received) else { break BodyEnd::Refused };
            assert!(decoded.payload <= decoded.consumed && decoded.consumed <= self.received.len());
            payload.extend_from_slice(&self.received[..decoded.payload]);
            self.consume(decoded.consumed);
            if decoder.is_done() {
                break BodyEnd::Complete;
            }
            assert!(self.received.is_empty(), "a decoder that is not done takes everything");
            if !self.receive() {
                break BodyEnd::Truncated;
            }
        };
        let mut tail = Vec::new();
        if end == BodyEnd::Complete {
            decoder.write_end(&mut tail);
        }
        Body { payload, end, tail }
    }
}
