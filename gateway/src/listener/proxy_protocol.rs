//! The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's first byte.
//! The specification is `doc/proxy-protocol.txt` of HAProxy.
//!
//! Reading and writing of headers here, without I/O; [`receive`] takes one from a socket.

mod checksum;
mod receive;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use checksum::crc32c;
pub use receive::{Mode, Origin, Trust, receive};
use topology::ProxyVersion;

/// Section 2.1: the longest line, with its CR LF.
const MAX_V1_BYTES: usize = 107;
const V1_START: &[u8] = b"PROXY ";
/// Section 2.2.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// Of addresses and TLVs. The longest that is known in practice, an identity with its certificate's
/// names, is some hundred bytes.
const MAX_V2_REST: usize = 4 << 10;
/// The longest header of either version.
pub const MAX_HEADER_BYTES: usize = V2_FIXED + MAX_V2_REST;
const V2_IPV4_ADDRESSES: usize = 12;
const V2_IPV6_ADDRESSES: usize = 36;
const V2_UNIX_ADDRESSES: usize = 216;
/// Section 2.2.3.
const TLV_CRC32C: u8 = 0x03;

/// Whom a connection joins, as the proxy that accepted it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// A beginning; ask again with more.
    NeedMore,
    /// A header of this length. Without addresses when the proxy speaks for itself (LOCAL) or for a
    /// client that has no Internet address: then those of the connection hold.
    Header { length: usize, addresses: Option<Addresses> },
    /// Another protocol.
    NotProxy,
    /// A header that breaks a rule.
    Malformed,
}

/// Reads the header at the front of `received`, which is everything since the connection's first byte.
/// Once the answer is not [`FirstBytes::NeedMore`], further bytes do not change it.
pub fn read_header(received: &[u8]) -> FirstBytes {
    if begins(received, V1_START) {
        return if received.len() < V1_START.len() { FirstBytes::NeedMore } else { read_v1(received) };
    }
    if begins(received, V2_SIGNATURE) { read_v2(received) } else { FirstBytes::NotProxy }
}

/// Whether `received` is a beginning of `start`, or begins with it.
fn begins(received: &[u8], start: &[u8]) -> bool {
    let common = received.len().min(start.len());
    received[..common] == start[..common]
}

fn read_v1(received: &[u8]) -> FirstBytes {
    let most = received.len().min(MAX_V1_BYTES);
    let Some(end) = received[..most].iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if most < MAX_V1_BYTES { FirstBytes::NeedMore } else { FirstBytes::Malformed };
    };
    match received[end..most] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if most < MAX_V1_BYTES => return FirstBytes::NeedMore,
        _ => return FirstBytes::Malformed,
    }
    let line = std::str::from_utf8(&received[V1_START.len()..end]).unwrap_or_default();
    let length = end + 2;
    // Section 2.1: what follows UNKNOWN is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return FirstBytes::Header { length, addresses: None };
    }
    match v1_addresses(line) {
        Some(addresses) => FirstBytes::Header { length, addresses: Some(addresses) },
        None => FirstBytes::Malformed,
    }
}

fn v1_addresses(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let [source, destination] = [words.next()?, words.next()?].map(|word| match family {
        "TCP4" => word.parse().map(IpAddr::V4).ok(),
        "TCP6" => word.parse().map(IpAddr::V6).ok(),
        _ => None,
    });
    let [source_port, destination_port] = [words.next()?, words.next()?].map(v1_port);
    let none_follows = words.next().is_none();
    none_follows.then_some(Addresses {
        source: SocketAddr::new(source?, source_port?),
        destination: SocketAddr::new(destination?, destination_port?),
    })
}

/// Digits without sign and leading zeros, which some readers take for octal.
fn v1_port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    if plain { word.parse().ok() } else { None }
}

/// `received` begins as the signature does.
fn read_v2(received: &[u8]) -> FirstBytes {
    // Whatever of the fixed part is there is checked at once.
    let command = match received.get(12) {
        None => return FirstBytes::NeedMore,
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return FirstBytes::Malformed,
    };
    let Some(family) = received.get(13) else { return FirstBytes::NeedMore };
    if family >> 4 > 3 || family & 0xf > 2 {
        return FirstBytes::Malformed;
    }
    let Some([high, low]) = received.get(14..V2_FIXED) else { return FirstBytes::NeedMore };
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    if rest > MAX_V2_REST {
        return FirstBytes::Malformed;
    }
    let length = V2_FIXED + rest;
    let Some(header) = received.get(..length) else { return FirstBytes::NeedMore };
    match command {
        // Section 2.2: the whole block is to be discarded.
        Command::Local => FirstBytes::Header { length, addresses: None },
        Command::Proxy => match v2_addresses(header, *family) {
            Some(addresses) => FirstBytes::Header { length, addresses },
            None => FirstBytes::Malformed,
        },
    }
}

enum Command {
    Local,
    Proxy,
}

/// The outer `None`: malformed.
fn v2_addresses(header: &[u8], family: u8) -> Option<Option<Addresses>> {
    let block = match family >> 4 {
        1 => V2_IPV4_ADDRESSES,
        2 => V2_IPV6_ADDRESSES,
        3 => V2_UNIX_ADDRESSES,
        // Unspecified: nothing is known of what follows.
        _ => return Some(None),
    };
    let (block, tlvs) = header[V2_FIXED..].split_at_checked(block)?;
    check_tlvs(header, tlvs)?;
    let both = match family {
        0x11 => ipv4(block).map(|(source, destination)| (IpAddr::from(source), IpAddr::from(destination))),
        0x21 => ipv6(block).map(|(source, destination)| (IpAddr::from(source), IpAddr::from(destination))),
        // Datagrams cannot be what this stream carries; sockets of a host are local to it.
        _ => return Some(None),
    };
    let (source, destination) = both?;
    let ports = &block[block.len() - 4..];
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Some(Addresses {
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
    }))
}

fn ipv4(block: &[u8]) -> Option<([u8; 4], [u8; 4])> {
    Some((block.get(..4)?.try_into().ok()?, block.get(4..8)?.try_into().ok()?))
}

fn ipv6(block: &[u8]) -> Option<([u8; 16], [u8; 16])> {
    Some((block.get(..16)?.try_into().ok()?, block.get(16..32)?.try_into().ok()?))
}

/// That they fill the header exactly and that the checksum, if there is one, is right.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Option<()> {
    let mut rest = tlvs;
    let mut has_checksum = false;
    while !rest.is_empty() {
        let (start, after) = rest.split_at_checked(3)?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([start[1], start[2]])))?;
        if start[0] == TLV_CRC32C {
            let said = u32::from_be_bytes(value.try_into().ok()?);
            let at = header.len() - after.len() - value.len();
            if has_checksum || said != crc32c_without(header, at) {
                return None;
            }
            has_checksum = true;
        }
        rest = after;
    }
    Some(())
}

/// Section 2.2.3: over the whole header, with zeros where the sum stands.
fn crc32c_without(header: &[u8], at: usize) -> u32 {
    crc32c(&[&header[..at], &[0; 4], &header[at + 4..]])
}

/// Writes the header that goes before a connection's first byte.
pub fn write_header(version: ProxyVersion, addresses: Addresses, out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => write_v1(addresses, out),
        ProxyVersion::V2 => write_v2(addresses, out),
    }
}

fn write_v1(addresses: Addresses, out: &mut Vec<u8>) {
    let (source, destination) = one_family(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (addresses.source.port(), addresses.destination.port());
    out.extend_from_slice(format!("PROXY {family} {source} {destination} {from} {to}\r\n").as_bytes());
}

fn write_v2(addresses: Addresses, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_SIGNATURE);
    match one_family(addresses) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, V2_IPV4_ADDRESSES as u8]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, V2_IPV6_ADDRESSES as u8]);
            out.extend_from_slice(&as_v6(source).octets());
            out.extend_from_slice(&as_v6(destination).octets());
        }
    }
    out.extend_from_slice(&addresses.source.port().to_be_bytes());
    out.extend_from_slice(&addresses.destination.port().to_be_bytes());
}

/// Both as IPv4 where they are, as IPv6 otherwise: a header has one family.
fn one_family(addresses: Addresses) -> (IpAddr, IpAddr) {
    let [source, destination] = [addresses.source, addresses.destination].map(|a| a.ip().to_canonical());
    if source.is_ipv4() && destination.is_ipv4() {
        return (source, destination);
    }
    (as_v6(source).into(), as_v6(destination).into())
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests;
