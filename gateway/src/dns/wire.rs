//! A message's outline, read before anything is decoded: what it claims to hold, and where its last record begins.
//!
//! A header of twelve bytes may announce 65,535 questions. Nothing is set aside for them here, and what is not a
//! plausible query never comes to the decoder.

/// RFC 1035 section 4.1.1.
pub const HEADER_BYTES: usize = 12;
/// RFC 1035 section 2.3.4.
const MAX_NAME_BYTES: usize = 255;
/// RFC 8945 section 4.2.
const TSIG: u16 = 250;

/// RFC 1035 section 4.1.1, without what a server ignores of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub id: u16,
    pub is_response: bool,
    pub op_code: u8,
    /// Of questions, answers, authorities and additionals.
    pub counts: [u16; 4],
}

impl Head {
    /// `None`: there is not even a header.
    pub fn read(message: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let flags = word(2)?;
        Some(Self {
            id: word(0)?,
            is_response: flags & 0x8000 != 0,
            op_code: (flags >> 11) as u8 & 0xf,
            counts: [word(4)?, word(6)?, word(8)?, word(10)?],
        })
    }

    fn records(&self) -> usize {
        self.counts[1..].iter().map(|count| usize::from(*count)).sum()
    }
}

/// Where a message's last record begins, if that is a TSIG record and all of it is there.
///
/// # Errors
/// [`Broken`] where names, records or the message do not end where they should.
pub fn signature_at(message: &[u8]) -> Result<Option<usize>, Broken> {
    let head = Head::read(message).ok_or(Broken)?;
    let mut at = HEADER_BYTES;
    for _ in 0..head.counts[0] {
        at = skip_name(message, at)?.checked_add(4).ok_or(Broken)?;
    }
    let mut last = None;
    for _ in 0..head.records() {
        let begin = at;
        let fixed = skip_name(message, at)?;
        let field = |offset: usize| word(message, fixed + offset);
        let (kind, length) = (field(0)?, field(8)?);
        at = fixed + 10 + usize::from(length);
        if at > message.len() {
            return Err(Broken);
        }
        last = (kind == TSIG).then_some(begin);
    }
    // What follows the last record is nobody's.
    if at == message.len() { Ok(last) } else { Err(Broken) }
}

/// What is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

pub fn word(message: &[u8], at: usize) -> Result<u16, Broken> {
    match message.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        Some(bytes) => Ok(u16::from_be_bytes(*bytes)),
        None => Err(Broken),
    }
}

/// Where what follows the name begins. Where a pointer leads is not looked at.
pub fn skip_name(message: &[u8], from: usize) -> Result<usize, Broken> {
    let mut at = from;
    loop {
        let length = *message.get(at).ok_or(Broken)?;
        at = match length {
            0 => return Ok(at + 1),
            0xc0.. => {
                return if at + 1 < message.len() { Ok(at + 2) } else { Err(Broken) };
            }
            0x40.. => return Err(Broken),
            _ => at + 1 + usize::from(length),
        };
        if at - from > MAX_NAME_BYTES {
            return Err(Broken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_promises_more_than_there_is_breaks_at_once() {
        let mut header = [0; HEADER_BYTES];
        header[4..6].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(Head::read(&header).unwrap().counts[0], u16::MAX);
        assert_eq!(signature_at(&header), Err(Broken));
        assert_eq!(Head::read(&header[..11]), None);
        assert_eq!(signature_at(&header[..3]), Err(Broken));
    }

    #[test]
    fn names_end_at_a_zero_or_at_a_pointer_and_nowhere_else() {
        assert_eq!(skip_name(b"\x01a\x02bc\x00rest", 0), Ok(6));
        assert_eq!(skip_name(b"\x01a\xc0\x00rest", 0), Ok(4));
        for broken in [&b"\x05abc"[..], b"", b"\x01a\xc0", b"\x41a\x00", b"\x80"] {
            assert_eq!(skip_name(broken, 0), Err(Broken), "{broken:?}");
        }
        let endless = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5);
        assert_eq!(skip_name(&endless, 0), Err(Broken));
    }

    #[test]
    fn what_follows_the_last_record_makes_a_message_broken() {
        let question = [&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x00\x00\x01\x00\x01"].concat();
        assert_eq!(signature_at(&question), Ok(None));
        assert_eq!(signature_at(&[&question[..], b"x"].concat()), Err(Broken));
    }
}
