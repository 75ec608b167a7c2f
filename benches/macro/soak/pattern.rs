//! Contents whose every byte is known from a seed and its place, so that a byte that was lost, doubled, moved or
//! taken from another response is seen.

use std::hash::Hasher;
use std::sync::LazyLock;

/// A prime: no buffer's size is a multiple of it, so pieces that change places do not fit.
const PERIOD: usize = 65_521;
/// How much is compared or made at a time.
pub const PIECE: usize = 64 << 10;

/// Twice the period, so that a piece at any place is one slice of it.
static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(PERIOD as u64);
    let once: Vec<u8> = (0..PERIOD).map(|_| random.u8(..)).collect();
    once.repeat(3)
});

/// `length` bytes from `offset` on, at most [`PIECE`].
pub fn piece(seed: u64, offset: u64, length: usize) -> &'static [u8] {
    let from = (seed.wrapping_add(offset) % PERIOD as u64) as usize;
    &BLOCK[from..from + length.min(PIECE)]
}

/// All of a content.
pub fn whole(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(piece(seed, bytes.len() as u64, length - bytes.len()));
    }
    bytes
}

/// Whether `bytes` are those at `offset`.
pub fn is_right(seed: u64, mut offset: u64, bytes: &[u8]) -> bool {
    bytes.chunks(PIECE).all(|chunk| {
        let wanted = piece(seed, offset, chunk.len());
        offset += chunk.len() as u64;
        wanted == chunk
    })
}

/// The same in every thread of this process, which is all that compares it.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
