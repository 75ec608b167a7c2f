//! Identifiers of requests: unique across gateways and restarts, not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// An odd multiplier spreads consecutive numbers over all bits (Knuth, TAOCP 6.4).
pub const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64 random bits of this worker's start, then a number of its own.
#[derive(Debug)]
pub struct RequestIds {
    origin: u64,
    count: Cell<u64>,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { origin: random(), count: Cell::new(random()) }
    }
}

/// The standard library seeds its hash maps from the operating system.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 32 hexadecimal digits.
pub type RequestId = [u8; 32];

impl RequestIds {
    pub fn next(&self) -> RequestId {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let number = u128::from(self.origin) << 64 | u128::from(count.wrapping_mul(SPREAD));
        let mut digits = [0; 32];
        for (i, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (124 - 4 * i)) as usize & 0xf];
        }
        digits
    }
}
