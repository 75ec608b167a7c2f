//! Bytes that could not be passed on at once.

/// Has no memory while it is empty.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Vec<u8>,
    taken: usize,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.taken..]
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the first `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Where records are appended that come in one by one.
    pub fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}
