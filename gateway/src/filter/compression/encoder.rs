//! A body in another coding, piece by piece.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression as GzipLevel;
use flate2::write::GzEncoder;
use topology::filters::{Coding, CompressionLevel};

/// How far back a coding may look, as a power of two: 256 KiB. Pages are smaller, and memory is held per
/// response that is on its way.
const WINDOW_BITS: u32 = 18;
/// The least that brotli and zstd know.
const LEAST_BITS: u32 = 10;
/// What comes out at once is a few frames; brotli hands its output over in pieces of this.
const BROTLI_BUFFER: usize = 16 << 10;
/// What one worker's encoders may hold together. A response that finds no room goes out as it came.
pub const MAX_BYTES: usize = 64 << 20;

/// What the encoders of one worker hold, by the estimate that [`bytes_of`] is.
#[derive(Debug, Clone, Default)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    fn take(&self, bytes: usize) -> Option<Held> {
        let held = self.0.get() + bytes;
        (held <= MAX_BYTES).then(|| {
            self.0.set(held);
            Held { room: self.clone(), bytes }
        })
    }
}

#[derive(Debug)]
struct Held {
    room: Room,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get() - self.bytes);
    }
}

/// Windows, tables and buffers, rounded up: what the libraries document, and what was measured.
fn bytes_of(coding: Coding, bits: u32) -> usize {
    match coding {
        Coding::Gzip => 320 << 10,
        Coding::Brotli => (512 << 10) + (4 << bits),
        Coding::Zstd => (256 << 10) + (6 << bits),
    }
}

enum Codec {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Over,
}

impl Codec {
    fn new(coding: Coding, level: CompressionLevel, bits: u32, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), GzipLevel::new(gzip_level(level)))),
            Coding::Brotli => {
                let level = brotli_level(level);
                Self::Brotli(Box::new(CompressorWriter::new(Vec::new(), BROTLI_BUFFER, level, bits)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), zstd_level(level))?;
                encoder.window_log(bits)?;
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(input).map(|()| std::mem::take(encoder.get_mut())),
            Self::Brotli(encoder) => encoder.write_all(input).map(|()| std::mem::take(encoder.get_mut())),
            Self::Zstd(encoder) => encoder.write_all(input).map(|()| std::mem::take(encoder.get_mut())),
            Self::Over => Ok(Vec::new()),
        }
    }

    fn flush(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
            Self::Brotli(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
            Self::Zstd(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
            Self::Over => Ok(Vec::new()),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Over => Ok(Vec::new()),
        }
    }
}

/// Codes one body. What it is given comes out later; at the latest when it is told to flush or to finish.
pub struct Encoder {
    codec: Codec,
    pub coding: Coding,
    /// Whether something was given to it that need not have come out.
    holds: bool,
    /// Bytes that went in, and that came out.
    pub taken: u64,
    pub given: u64,
    _held: Held,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { coding, taken, given, .. } = self;
        formatter
            .debug_struct("Encoder")
            .field("coding", coding)
            .field("taken", taken)
            .field("given", given)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// `length`: of the body, where it is known. `None` when there is no room for one more.
    pub fn new(coding: Coding, level: CompressionLevel, length: Option<u64>, room: &Room) -> Option<Self> {
        let bits = window_bits(length);
        let held = room.take(bytes_of(coding, bits))?;
        // The libraries refuse settings that are out of range, and these are not; zstd may be out of memory.
        let codec = Codec::new(coding, level, bits, length).ok()?;
        Some(Self { codec, coding, holds: false, taken: 0, given: 0, _held: held })
    }

    /// # Errors
    /// When the library is out of memory.
    pub fn write(&mut self, input: &[u8]) -> io::Result<Bytes> {
        self.holds |= !input.is_empty();
        self.taken += input.len() as u64;
        let output = self.codec.write(input)?;
        Ok(self.out(output))
    }

    /// What is still inside, so that the client can read all that was given so far; nothing if it has it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<Bytes> {
        if !std::mem::take(&mut self.holds) {
            return Ok(Bytes::new());
        }
        let output = self.codec.flush()?;
        Ok(self.out(output))
    }

    /// Whether [`Self::flush`] would bring anything.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// What is still inside, and the coding's own end. Nothing can follow.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(&mut self) -> io::Result<Bytes> {
        self.holds = false;
        let output = std::mem::replace(&mut self.codec, Codec::Over).finish()?;
        Ok(self.out(output))
    }

    fn out(&mut self, output: Vec<u8>) -> Bytes {
        self.given += output.len() as u64;
        output.into()
    }
}

/// No more than the body has use for: tables are made, and emptied, for each one.
fn window_bits(length: Option<u64>) -> u32 {
    let needed = length.map_or(WINDOW_BITS, |length| u64::BITS - length.leading_zeros());
    needed.clamp(LEAST_BITS, WINDOW_BITS)
}

/// zlib's default is 6, nginx's 1: from 5 on each step costs more than it saves.
fn gzip_level(level: CompressionLevel) -> u32 {
    match level {
        CompressionLevel::Fast => 1,
        CompressionLevel::Balanced => 5,
        CompressionLevel::Small => 8,
    }
}

/// From 10 on a megabyte takes seconds, which no worker has.
fn brotli_level(level: CompressionLevel) -> u32 {
    match level {
        CompressionLevel::Fast => 2,
        CompressionLevel::Balanced => 4,
        CompressionLevel::Small => 7,
    }
}

/// 3 is the library's own default.
fn zstd_level(level: CompressionLevel) -> i32 {
    match level {
        CompressionLevel::Fast => 1,
        CompressionLevel::Balanced => 3,
        CompressionLevel::Small => 9,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];
    const LEVELS: [CompressionLevel; 3] =
        [CompressionLevel::Fast, CompressionLevel::Balanced, CompressionLevel::Small];

    fn decode(coding: Coding, coded: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain)?,
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(coded)?.read_to_end(&mut plain)?,
        };
        Ok(plain)
    }

    /// What a client can read of a body that has not ended.
    fn begun(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut piece = [0; 512];
        let mut reader: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(coded, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
        };
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            plain.extend_from_slice(&piece[..read]);
        }
        plain
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in ALL {
            let mut encoder =
                Encoder::new(coding, CompressionLevel::Balanced, None, &Room::default()).unwrap();
            let mut coded = Vec::new();
            for event in ["data: one\n\n", "data: two\n\n"] {
                coded.extend_from_slice(&encoder.write(event.as_bytes()).unwrap());
                assert!(encoder.holds());
                coded.extend_from_slice(&encoder.flush().unwrap());
                assert!(!encoder.holds() && encoder.flush().unwrap().is_empty());
                assert!(begun(coding, &coded).ends_with(event.as_bytes()), "{coding:?}");
            }
            coded.extend_from_slice(&encoder.finish().unwrap());
            assert_eq!(decode(coding, &coded).unwrap(), b"data: one\n\ndata: two\n\n");
            assert_eq!((encoder.taken, encoder.given), (22, coded.len() as u64));
        }
    }

    #[test]
    fn no_more_encoders_than_there_is_room_for() {
        let room = Room::default();
        let mut encoders = Vec::new();
        while let Some(encoder) = Encoder::new(Coding::Brotli, CompressionLevel::Fast, None, &room) {
            encoders.push(encoder);
        }
        assert!((16..=128).contains(&encoders.len()), "{}", encoders.len());
        encoders.pop();
        assert!(Encoder::new(Coding::Brotli, CompressionLevel::Fast, None, &room).is_some());
        drop(encoders);
        assert_eq!(room.0.get(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn every_body_comes_back_whatever_its_pieces(
            pieces in proptest::collection::vec((proptest::collection::vec(0u8..8, 0..3000), any::<bool>()), 0..12),
            level in 0..3usize,
            knows_length: bool,
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for coding in ALL {
                let length = knows_length.then_some(whole.len() as u64);
                let mut encoder = Encoder::new(coding, LEVELS[level], length, &Room::default()).unwrap();
                let mut coded = Vec::new();
                for (piece, flushes) in &pieces {
                    coded.extend_from_slice(&encoder.write(piece).unwrap());
                    if *flushes {
                        coded.extend_from_slice(&encoder.flush().unwrap());
                    }
                }
                coded.extend_from_slice(&encoder.finish().unwrap());
                prop_assert_eq!(decode(coding, &coded).unwrap(), whole.clone());
            }
        }
    }
}
