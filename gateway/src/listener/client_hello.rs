//! The first message of a TLS connection, read without taking part in the handshake: which host the
//! client asks for and which protocols it offers.
//!
//! What is found is good for choosing where bytes go, not for believing who sent them: nothing here is
//! authenticated yet. With Encrypted Client Hello it is the outer, public name.

use std::borrow::Cow;
use std::net::IpAddr;

use topology::normalize_host;

/// Of the records that hold the message. With post-quantum key shares a hello is 1.8 KiB, with a session
/// ticket that carries a client certificate some KiB; OpenSSL and BoringSSL refuse more than 16 KiB too.
pub const MAX_HELLO_BYTES: usize = 16 << 10;

/// RFC 8446 section 5.1.
const RECORD_HEADER: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;
const MAX_RECORD_BYTES: usize = 1 << 14;
/// RFC 8446 section 4.
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 section 4.1.2.
const RANDOM_BYTES: usize = 32;
const MAX_SESSION_ID_BYTES: usize = 32;
/// RFC 6066 section 3 and RFC 7301 section 3.1.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a connection's first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstBytes {
    /// A beginning; ask again with more.
    NeedMore,
    Hello(Hello),
    /// Another protocol.
    NotTls,
    /// TLS that breaks a rule, or a hello above [`MAX_HELLO_BYTES`].
    Malformed,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lower case, without a trailing dot. `None` when the client names no host, or an address, which RFC
    /// 6066 section 3 does not allow and some clients send.
    pub server_name: Option<String>,
    /// The list as it was sent, with the length before each name.
    alpn: Box<[u8]>,
}

impl Hello {
    /// The protocols that the client offers (RFC 7301), best first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Reader(&self.alpn);
        std::iter::from_fn(move || rest.vector8())
    }
}

/// Reads the hello at the front of `received`, which is everything since the connection's first byte.
/// Once the answer is not [`FirstBytes::NeedMore`], further bytes do not change it.
pub fn read_client_hello(received: &[u8]) -> FirstBytes {
    match message(received) {
        Err(end) => end,
        Ok(message) => body(&message).map_or(FirstBytes::Malformed, FirstBytes::Hello),
    }
}

/// The hello without its header, put together from the records that it came in.
fn message(received: &[u8]) -> Result<Cow<'_, [u8]>, FirstBytes> {
    let mut message = Cow::Borrowed(&[][..]);
    let mut rest = received;
    loop {
        let is_first = message.is_empty();
        let (fragment, is_whole) = fragment(rest, is_first)?;
        if is_first {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        let used = received.len() - rest.len() + RECORD_HEADER;
        match wanted(&message).map_err(|()| FirstBytes::Malformed)? {
            // Where it would end if no further record header came; asked before anything else, so that
            // the answer does not depend on how much has arrived.
            Some(length) if used + fragment.len() + length - message.len() > MAX_HELLO_BYTES => {
                return Err(FirstBytes::Malformed);
            }
            Some(length) if message.len() >= length => return Ok(without_header(message, length)),
            _ if !is_whole => return Err(FirstBytes::NeedMore),
            _ => rest = &rest[RECORD_HEADER + fragment.len()..],
        }
    }
}

fn without_header(message: Cow<'_, [u8]>, length: usize) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[MESSAGE_HEADER..length]),
        Cow::Owned(bytes) => Cow::Owned(bytes[MESSAGE_HEADER..length].to_vec()),
    }
}

/// What is there of the next record's content, and whether that is all of it.
fn fragment(rest: &[u8], is_first: bool) -> Result<(&[u8], bool), FirstBytes> {
    let wrong = if is_first { FirstBytes::NotTls } else { FirstBytes::Malformed };
    let is_record = rest.first().is_none_or(|kind| *kind == HANDSHAKE_RECORD)
        // The minor version means nothing any more (RFC 8446 section 5.1).
        && rest.get(1).is_none_or(|major| *major == 3);
    if !is_record {
        return Err(wrong);
    }
    let [_, _, _, high, low, content @ ..] = rest else {
        return Err(FirstBytes::NeedMore);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // Empty fragments of a handshake are forbidden: RFC 8446 section 5.1.
    if length == 0 || length > MAX_RECORD_BYTES {
        return Err(FirstBytes::Malformed);
    }
    Ok((&content[..length.min(content.len())], content.len() >= length))
}

/// The length of the message with its header, once that is there.
fn wanted(message: &[u8]) -> Result<Option<usize>, ()> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(());
    }
    let [_, a, b, c, ..] = message else { return Ok(None) };
    let length = MESSAGE_HEADER + u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if RECORD_HEADER + length > MAX_HELLO_BYTES { Err(()) } else { Ok(Some(length)) }
}

/// RFC 8446 section 4.1.2; `None` when it is broken.
fn body(message: &[u8]) -> Option<Hello> {
    let mut reader = Reader(message);
    let [3, _] = reader.take(2)? else { return None };
    reader.take(RANDOM_BYTES)?;
    let session_id = reader.vector8()?;
    let cipher_suites = reader.vector16()?;
    let compression_methods = reader.vector8()?;
    if session_id.len() > MAX_SESSION_ID_BYTES
        || cipher_suites.is_empty()
        || cipher_suites.len() % 2 == 1
        || compression_methods.is_empty()
    {
        return None;
    }
    // TLS 1.2 may have no extensions at all: RFC 5246 section 7.4.1.2.
    let extensions = if reader.is_empty() { &[] } else { reader.vector16()? };
    if reader.is_empty() { read_extensions(Reader(extensions)) } else { None }
}

fn read_extensions(mut extensions: Reader<'_>) -> Option<Hello> {
    let (mut name, mut alpn) = (None, None);
    while !extensions.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        let former = match kind {
            SERVER_NAME => name.replace(host_name(content)?).is_some(),
            ALPN => alpn.replace(protocols(content)?).is_some(),
            _ => false,
        };
        // Two of a kind (forbidden by RFC 8446 section 4.2): the endpoint could read the other one.
        if former {
            return None;
        }
    }
    Some(Hello { server_name: name.flatten(), alpn: alpn.unwrap_or_default().into() })
}

/// The one host name of the extension; the inner `None` stands for an address. A list of two, or of
/// another kind, is no TLS that exists.
fn host_name(content: &[u8]) -> Option<Option<String>> {
    let mut reader = Reader(content);
    let mut list = Reader(reader.vector16()?);
    let [HOST_NAME] = list.take(1)? else { return None };
    let name = list.vector16()?;
    if !list.is_empty() || !reader.is_empty() || name.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?;
    if text.parse::<IpAddr>().is_ok() {
        return Some(None);
    }
    // An authority may have a port and brackets, a host name not.
    if name.contains(&b':') || name.contains(&b'[') {
        return None;
    }
    normalize_host(name).map(|name| Some(name.into_owned()))
}

/// The offered names, each with its length before it.
fn protocols(content: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(content);
    let list = reader.vector16()?;
    let mut names = Reader(list);
    if list.is_empty() || !reader.is_empty() {
        return None;
    }
    while !names.is_empty() {
        if names.vector8()?.is_empty() {
            return None;
        }
    }
    Some(list)
}

/// Bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows its length in one byte.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// What follows its length in two bytes.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
