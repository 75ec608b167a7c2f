//! Where a body ends, as its head says (RFC 9112 section 6).

use super::fields::list_items;
use super::{FieldKind, Fields, Malformed};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    pub fn from_minor(minor: u8) -> Self {
        if minor == 0 { Self::Http10 } else { Self::Http11 }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, not even an empty one.
    None,
    Length(u64),
    /// As the message itself delimits it: by chunks, or by the end of an HTTP/2 stream.
    Chunked,
    /// Responses only.
    UntilClose,
}

impl Framing {
    /// Whether a body is to come that is more than nothing.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// What the Transfer-Encoding fields of a message amount to.
pub(super) enum Coding {
    Absent,
    Chunked,
}

/// A coding other than chunked, or chunked anywhere but last and once, leaves the body's end to
/// interpretation. So do the empty items that RFC 9110 section 5.6.1.2 tolerates in lists: hyper reads
/// a response with `chunked,` until it closes.
pub(super) fn coding(fields: &Fields, head: &[u8], version: Version) -> Result<Coding, Malformed> {
    let mut last: Option<bool> = None;
    let mut before = 0;
    for field in fields.all(FieldKind::TransferEncoding) {
        for item in field.value.within(head).split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if item.is_empty() || last == Some(true) {
                return Err(Malformed::TransferEncoding);
            }
            before += usize::from(last.is_some());
            last = Some(item.eq_ignore_ascii_case(b"chunked"));
        }
    }
    match last {
        None => Ok(Coding::Absent),
        Some(_) if version == Version::Http10 => Err(Malformed::CodingInHttp10),
        Some(false) => Err(Malformed::TransferEncoding),
        Some(true) if before > 0 => Err(Malformed::UnknownCoding),
        Some(true) => Ok(Coding::Chunked),
    }
}

/// The next hop may count in signed 64-bit numbers, or reserve the largest for meanings of its own as
/// hyper does; a length that it reads differently is where requests are smuggled.
const MAX_CONTENT_LENGTH: u64 = i64::MAX as u64;

/// The digits of one Content-Length value.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    let length = value.iter().try_fold(0u64, |length, digit| {
        length.checked_mul(10).and_then(|length| length.checked_add(u64::from(digit - b'0')))
    });
    length.filter(|length| *length <= MAX_CONTENT_LENGTH).ok_or(Malformed::ContentLength)
}

/// Whether a Connection field has `option`.
pub(super) fn has_connection_option(fields: &Fields, head: &[u8], option: &[u8]) -> bool {
    fields
        .all(FieldKind::Connection)
        .any(|field| list_items(field.value.within(head)).any(|item| item.eq_ignore_ascii_case(option)))
}

/// Whether the sender keeps the connection open after this message (RFC 9112 section 9.3).
pub(super) fn keeps_alive(fields: &Fields, head: &[u8], version: Version) -> bool {
    if has_connection_option(fields, head, b"close") {
        return false;
    }
    version == Version::Http11 || has_connection_option(fields, head, b"keep-alive")
}
