//! The chunked transfer coding (RFC 9112 section 7.1): a strict decoder that works in place, and what
//! is needed to write it.
//!
//! What comes out is written again with chunk sizes of our own, so no chunk extension and no spelling
//! of a size that two parsers could read differently ever reaches the next hop.

use super::{FieldKind, Malformed};

/// 16 hexadecimal digits hold a u64; leading zeros beyond that serve nobody honest.
const MAX_SIZE_DIGITS: u8 = 16;
/// Of a whole body. Extensions are unused in practice; without a bound they would be free bytes for an
/// attacker.
const MAX_EXTENSION_BYTES: u16 = 4 << 10;
/// Trailers carry a checksum, a signature or a gRPC status.
pub const MAX_TRAILER_BYTES: usize = 8 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
    },
    /// White space between size and extension, which RFC 9112 section 7.1.1 calls bad and allows.
    BeforeExtension,
    Extension,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    Trailer {
        line_is_empty: bool,
    },
    TrailerLineFeed {
        line_is_empty: bool,
    },
    Done,
}

/// Decodes one body, fed as it arrives.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the current chunk: its size while that is read, then what is left of its data.
    remaining: u64,
    /// Of all chunks so far, white space before them included.
    extension_bytes: u16,
    /// Field lines of the trailer section as received, each with its CR LF.
    trailer: Vec<u8>,
}

/// What one call of [`ChunkedDecoder::decode`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The input's first bytes are now this much payload.
    pub payload: usize,
    /// Input bytes used; only after the end of the body less than all of them.
    pub consumed: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, remaining: 0, extension_bytes: 0, trailer: Vec::new() }
    }
}

impl ChunkedDecoder {
    /// The field lines after the last chunk, each with its CR LF.
    pub fn trailers(&self) -> &[u8] {
        &self.trailer
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes `input` as the body's next bytes and moves the payload in it to its front.
    ///
    /// # Errors
    /// [`Malformed::Chunk`] or [`Malformed::Trailer`]; the body's end is then unknowable.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, Malformed> {
        let mut payload = 0;
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let available = (input.len() - at) as u64;
                let take = available.min(self.remaining) as usize;
                input.copy_within(at..at + take, payload);
                payload += take;
                at += take;
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(Decoded { payload, consumed: at })
    }

    /// One byte that is not chunk data.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Size { digits }, _) => self.size(digits, byte),
            (State::BeforeExtension, b' ' | b'\t') => self.extend(State::BeforeExtension),
            (State::BeforeExtension, b';') => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLineFeed),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extend(State::Extension),
            (State::SizeLineFeed, b'\n') if self.remaining > 0 => Ok(State::Data),
            (State::SizeLineFeed, b'\n') => Ok(State::Trailer { line_is_empty: true }),
            (State::DataCarriageReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::Size { digits: 0 }),
            (State::Trailer { .. } | State::TrailerLineFeed { .. }, _) => self.trailer(byte),
            _ => Err(Malformed::Chunk),
        }
    }

    fn extend(&mut self, state: State) -> Result<State, Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(Malformed::Chunk) } else { Ok(state) }
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<State, Malformed> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if digits == MAX_SIZE_DIGITS {
                return Err(Malformed::Chunk);
            }
            self.remaining = if digits == 0 { 0 } else { self.remaining << 4 } | u64::from(digit);
            return Ok(State::Size { digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(Malformed::Chunk),
            b'\r' => Ok(State::SizeLineFeed),
            b';' => Ok(State::Extension),
            b' ' | b'\t' => Ok(State::BeforeExtension),
            _ => Err(Malformed::Chunk),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Trailer { line_is_empty }, b'\r') => return Ok(State::TrailerLineFeed { line_is_empty }),
            (State::Trailer { .. }, byte) if byte != b'\n' => self.trailer.push(byte),
            (State::TrailerLineFeed { line_is_empty: true }, b'\n') => return self.finish(),
            (State::TrailerLineFeed { .. }, b'\n') => {
                self.trailer.extend_from_slice(b"\r\n");
                return Ok(State::Trailer { line_is_empty: true });
            }
            _ => return Err(Malformed::Trailer),
        }
        if self.trailer.len() > MAX_TRAILER_BYTES {
            return Err(Malformed::Trailer);
        }
        Ok(State::Trailer { line_is_empty: false })
    }

    /// Checks the trailer section's grammar and drops the fields that a recipient must not take from
    /// there (RFC 9110 section 6.5.1).
    fn finish(&mut self) -> Result<State, Malformed> {
        if self.trailer.is_empty() {
            return Ok(State::Done);
        }
        let mut section = std::mem::take(&mut self.trailer);
        section.extend_from_slice(b"\r\n");
        let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&section, &mut slots)
        else {
            return Err(Malformed::Trailer);
        };
        for field in fields.iter().filter(|field| is_allowed_trailer(field.name.as_bytes())) {
            self.trailer.extend_from_slice(field.name.as_bytes());
            self.trailer.extend_from_slice(b": ");
            self.trailer.extend_from_slice(field.value);
            self.trailer.extend_from_slice(b"\r\n");
        }
        Ok(State::Done)
    }

    /// The end of a chunked body for the next hop: last chunk, trailer section, empty line.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(&self.trailer);
        out.extend_from_slice(b"\r\n");
    }
}

/// Not what decides over framing, routing, authentication or how content is read: a recipient that
/// merges trailers into the head would take it for what the head said.
pub fn is_allowed_trailer(name: &[u8]) -> bool {
    const DENIED: [&[u8]; 20] = [
        b"accept",
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expires",
        b"if-match",
        b"if-none-match",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"www-authenticate",
    ];
    FieldKind::of(name) == FieldKind::Other && !DENIED.iter().any(|denied| name.eq_ignore_ascii_case(denied))
}

/// A trailer section within [`MAX_TRAILER_BYTES`] has no honest use for more.
const MAX_TRAILER_FIELDS: usize = 32;

/// The end of a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends `payload` as one chunk. An empty one would end the body, so it writes nothing.
pub fn write_chunk(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    write_hex(payload.len(), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn write_hex(size: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * digit) & 0xf]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `body` in pieces of `step` bytes: payload, bytes consumed, and the decoder.
    fn decode(body: &[u8], step: usize) -> Result<(Vec<u8>, usize, ChunkedDecoder), Malformed> {
        let (mut decoder, mut payload, mut consumed) = (ChunkedDecoder::default(), Vec::new(), 0);
        for piece in body.chunks(step) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece)?;
            payload.extend_from_slice(&piece[..decoded.payload]);
            consumed += decoded.consumed;
        }
        Ok((payload, consumed, decoder))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_understood() {
        let body =
            b"4\r\nWiki\r\n5;a=\"b c\"\r\npedia\r\n0\r\nSum: 1\r\nHost: evil\r\nCookie: c\r\nContent-Length: 3\r\n\r\nGET";
        for step in 1..body.len() {
            let (payload, consumed, decoder) = decode(body, step).unwrap();
            assert_eq!(payload, b"Wikipedia");
            assert!(decoder.is_done());
            assert_eq!(consumed, body.len() - 3);
            let mut end = Vec::new();
            decoder.write_end(&mut end);
            assert_eq!(end, b"0\r\nSum: 1\r\n\r\n");
        }
    }

    #[test]
    fn every_liberty_is_refused() {
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "5\rx",
            "5;a\n",
            "5;a\0\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\nhello\r0",
            "10000000000000000\r\n",
            "00000000000000005\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n b: c\r\n\r\n",
            "0\r\n\n",
        ] {
            assert!(decode(bad.as_bytes(), 1).is_err(), "{bad:?}");
            assert!(decode(bad.as_bytes(), bad.len()).is_err(), "{bad:?}");
        }
        assert!(decode(format!("5;{}\r\n", "x".repeat(5000)).as_bytes(), 7).is_err());
        assert!(decode(format!("0\r\nA: {}\r\n\r\n", "x".repeat(MAX_TRAILER_BYTES)).as_bytes(), 7).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), step in 1usize..64) {
            let mut body = Vec::new();
            for piece in &pieces {
                write_chunk(piece, &mut body);
            }
            body.extend_from_slice(LAST_CHUNK);
            let (payload, consumed, decoder) = decode(&body, step).unwrap();
            prop_assert_eq!(payload, pieces.concat());
            prop_assert_eq!(consumed, body.len());
            prop_assert!(decoder.is_done());
        }
    }
}
