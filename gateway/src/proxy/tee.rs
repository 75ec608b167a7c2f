//! A body that is kept on its way, to be sent once more elsewhere.

use bytes::Bytes;

/// A body as it passes by, as long as it is not too long.
#[derive(Debug)]
pub struct Tee {
    kept: Vec<u8>,
    most: usize,
}

impl Tee {
    /// Keeps `most` bytes, and nothing of a longer body.
    pub fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most }
    }

    /// Whether it still keeps the body.
    pub fn keep(&mut self, bytes: &[u8]) -> bool {
        let fits = self.kept.len() + bytes.len() <= self.most;
        if fits {
            self.kept.extend_from_slice(bytes);
        }
        fits
    }

    pub fn into_bytes(self) -> Bytes {
        self.kept.into()
    }
}
