//! How bytes arrive: cut at places that depend on nothing but the bytes, so that every failure repeats
//! and a corpus holds plain messages.

/// The longest piece of a message that arrives in many.
const MAX_PIECE: usize = 48;

/// `input` in the order given, whole, byte by byte, or in pieces of changing length. `salt` picks another cut.
pub fn cut(input: &[u8], salt: u64) -> Vec<&[u8]> {
    let mut random = fastrand::Rng::with_seed(hash(input) ^ salt);
    let longest = match random.u8(..4) {
        0 => input.len().max(1),
        1 => 1,
        _ => random.usize(2..=MAX_PIECE),
    };
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(random.usize(1..=longest.min(rest.len())));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// FNV-1a.
pub fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
