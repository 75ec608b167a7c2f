//! A hash that never changes: every gateway and every release must put a key to the same place.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x100_0000_01b3;

/// FNV-1a, whose low bits are weak and are mixed once more. It keeps no secret: whoever chooses keys can choose
/// where they go.
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    mix(bytes.into_iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The last step of MurmurHash3: every bit decides over every other one.
pub fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed hash would send every session elsewhere at an upgrade.
    #[test]
    fn hashes_never_change() {
        let known = [0xefd0_1f60_ba99_2926, 0x82a2_a958_a9be_ce5b, 0xd533_fdec_7893_4dd9];
        assert_eq!(["", "a", "session"].map(|key| hash(key.bytes())), known);
    }
}
