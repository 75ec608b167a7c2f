//! The bytes: netlink(7), in host order but for what netfilter defines in network order.

/// Header of a message: length, type, flags, sequence number, port.
pub(super) const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// Flags in an attribute's type: nested, and in network order.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Requests, written one after the other into one buffer.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where the open message begins.
    start: usize,
    next_sequence: u32,
}

impl Requests {
    /// Numbers its messages from `sequence`.
    pub fn numbered_from(sequence: u32) -> Self {
        Self { next_sequence: sequence, ..Self::default() }
    }

    /// Begins a message with its family's fixed header; returns its number.
    pub fn begin(&mut self, kind: u16, flags: i32, fixed: &[u8]) -> u32 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        // Flags are an i32 in libc and 16 bits on the wire.
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        sequence
    }

    /// An attribute of the open message.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Text, with the zero that ends it in C.
    pub fn put_text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// A number in network order, as netfilter has them.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An attribute that is made of attributes. What `fill` writes must fit in 64 KiB.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self
    }

    /// Ends the open message.
    pub fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message that was ended last; returns its number.
    pub fn acknowledge_last(&mut self) -> u32 {
        let flags = self.start + 6;
        // The flag is in the lower byte of a number in host order.
        let lower = if cfg!(target_endian = "little") { flags } else { flags + 1 };
        self.bytes[lower] |= libc::NLM_F_ACK as u8;
        self.next_sequence.wrapping_sub(1)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn next_sequence(&self) -> u32 {
        self.next_sequence
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message of the kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first one off `bytes`; `None` at the end, and where the rest is none.
    pub fn split(bytes: &mut &'a [u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        let payload = bytes.get(HEADER..length)?;
        *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Self {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes(word(8)),
            payload,
        })
    }

    /// What follows the family's fixed header.
    pub fn attributes(&self, fixed: usize) -> Attributes<'a> {
        Attributes(self.payload.get(fixed.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// Attributes: their type without its flags, and their value. Ends where the bytes are none.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number in host order.
pub fn ne32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A number in network order.
pub fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Text up to the zero that ends it.
pub fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    str::from_utf8(&bytes[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut requests = Requests::numbered_from(7);
        assert_eq!(requests.begin(20, libc::NLM_F_ACK, &[1, 2, 3, 4]), 7);
        requests.put_text(1, "eth0").nest(2, |inner| {
            inner.put_be32(3, 9).put(4, &[5]);
        });
        requests.end();
        assert_eq!(requests.begin(21, 0, &[]), 8);
        requests.end();

        let mut bytes = requests.as_bytes();
        let message = Message::split(&mut bytes).unwrap();
        assert_eq!((message.kind, message.sequence), (20, 7));
        let mut attributes = message.attributes(4);
        assert_eq!(attributes.find(1).map(text), Some("eth0"));
        let inner = Attributes(attributes.nth(1).unwrap().1);
        assert_eq!(inner.find(3), Some(&[0, 0, 0, 9][..]));
        assert_eq!(inner.find(4), Some(&[5][..]));
        let message = Message::split(&mut bytes).unwrap();
        assert_eq!((message.kind, message.sequence, message.payload.len()), (21, 8, 0));
        assert!(Message::split(&mut bytes).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let mut rest = bytes.as_slice();
            let mut count = 0;
            while let Some(message) = Message::split(&mut rest) {
                count += 1 + message.attributes(4).map(|(_, value)| text(value).len()).sum::<usize>();
            }
            prop_assert!(count <= 2 * bytes.len());
        }
    }
}
