//! The chunked coding against a second reading of RFC 9112 section 7.1, written to be obvious.

use gateway::message::chunked::{ChunkedDecoder, MAX_TRAILER_BYTES, is_allowed_trailer};

use crate::pieces::cut;
use crate::{requests, responses, shown};

/// What `message::chunked` documents as its bounds.
const MAX_SIZE_DIGITS: usize = 16;
const MAX_EXTENSION_BYTES: usize = 4 << 10;
const MAX_TRAILER_FIELDS: usize = 32;

/// Both are fed what follows these, so that hyper's decoder gives its opinion too.
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The input ended and nothing in it was wrong.
    Incomplete,
    Refused,
}

/// `input` is a chunked body and whatever follows it.
///
/// # Panics
/// When our decoder and the plain one differ on any input, or ours accepts what hyper reads differently.
pub fn chunked(input: &[u8]) {
    let mut plain = Plain { input, at: 0, extensions: 0, payload: Vec::new(), tail: Vec::new() };
    let expected = plain.body();
    let mut decoder = ChunkedDecoder::default();
    let (mut payload, mut consumed, mut refused) = (Vec::new(), 0, false);
    for piece in cut(input, 0) {
        let mut piece = piece.to_vec();
        let Ok(decoded) = decoder.decode(&mut piece) else {
            refused = true;
            break;
        };
        payload.extend_from_slice(&piece[..decoded.payload]);
        consumed += decoded.consumed;
    }
    match expected {
        Err(Stop::Refused) => assert!(refused, "must be refused: {}", shown(input)),
        Err(Stop::Incomplete) => assert!(!refused && !decoder.is_done(), "goes on: {}", shown(input)),
        Ok(()) => {
            assert!(!refused && decoder.is_done(), "is complete: {}", shown(input));
            assert_eq!(consumed, plain.at, "{}", shown(input));
            let mut tail = Vec::new();
            decoder.write_end(&mut tail);
            assert_eq!(shown(&tail), shown(&[b"0\r\n", &plain.tail[..], b"\r\n"].concat()));
        }
    }
    if expected != Err(Stop::Refused) {
        assert_eq!(shown(&payload), shown(&plain.payload), "{}", shown(input));
    }
    requests(&[REQUEST, input].concat());
    responses(&[RESPONSE, input].concat());
}

struct Plain<'a> {
    input: &'a [u8],
    at: usize,
    /// Bytes of all extensions, and of white space where one would do.
    extensions: usize,
    payload: Vec<u8>,
    /// The trailer section less the fields that a recipient must not take from it.
    tail: Vec<u8>,
}

impl Plain<'_> {
    fn body(&mut self) -> Result<(), Stop> {
        loop {
            let size = self.size_line()?;
            if size == 0 {
                return self.trailer_section();
            }
            for _ in 0..size {
                let byte = self.next()?;
                self.payload.push(byte);
            }
            self.expect(b'\r')?;
            self.expect(b'\n')?;
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = *self.input.get(self.at).ok_or(Stop::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.next()? == wanted { Ok(()) } else { Err(Stop::Refused) }
    }

    /// `chunk-size [ chunk-ext ] CRLF`, with white space between the two.
    fn size_line(&mut self) -> Result<u64, Stop> {
        let mut digits = String::new();
        let mut byte = self.next()?;
        while byte.is_ascii_hexdigit() {
            digits.push(char::from(byte));
            if digits.len() > MAX_SIZE_DIGITS {
                return Err(Stop::Refused);
            }
            byte = self.next()?;
        }
        let size = u64::from_str_radix(&digits, 16).map_err(|_| Stop::Refused)?;
        let spaced = matches!(byte, b' ' | b'\t');
        if spaced {
            byte = self.next()?;
        }
        while matches!(byte, b' ' | b'\t') {
            self.count_extension()?;
            byte = self.next()?;
        }
        if byte == b';' {
            byte = self.extension()?;
        } else if spaced {
            return Err(Stop::Refused);
        }
        if byte != b'\r' {
            return Err(Stop::Refused);
        }
        self.expect(b'\n').map(|()| size)
    }

    /// The byte after it.
    fn extension(&mut self) -> Result<u8, Stop> {
        loop {
            let byte = self.next()?;
            if byte < b' ' && byte != b'\t' || byte == 0x7f {
                return Ok(byte);
            }
            self.count_extension()?;
        }
    }

    fn count_extension(&mut self) -> Result<(), Stop> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSION_BYTES { Err(Stop::Refused) } else { Ok(()) }
    }

    fn trailer_section(&mut self) -> Result<(), Stop> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        loop {
            let line = self.trailer_line(lines.iter().map(|line| line.len() + 2).sum())?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        if lines.len() > MAX_TRAILER_FIELDS {
            return Err(Stop::Refused);
        }
        for line in &lines {
            self.field(line)?;
        }
        Ok(())
    }

    /// Up to its CR LF; `before` it came that many bytes.
    fn trailer_line(&mut self, before: usize) -> Result<Vec<u8>, Stop> {
        let mut line = Vec::new();
        loop {
            match self.next()? {
                b'\r' => return self.expect(b'\n').map(|()| line),
                b'\n' => return Err(Stop::Refused),
                byte => line.push(byte),
            }
            if before + line.len() > MAX_TRAILER_BYTES {
                return Err(Stop::Refused);
            }
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Stop> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Refused)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if name.is_empty() || !name.iter().all(is_token) || !line[colon + 1..].iter().all(is_text) {
            return Err(Stop::Refused);
        }
        if is_allowed_trailer(name) {
            self.tail.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
        }
        Ok(())
    }
}
