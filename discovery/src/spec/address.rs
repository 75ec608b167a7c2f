//! Addresses of endpoints.

use std::net::SocketAddr;

/// A string that is no address to connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no address{}; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080", .why)]
pub struct BadAddress {
    given: String,
    why: &'static str,
}

/// As long as an IPv6 address with zone and port can be; the rest of a longer text tells nothing.
const MAX_SHOWN_CHARS: usize = 64;

/// Reads `IP:port`. Host names are refused, since a request does no DNS; so are port 0 and addresses
/// that name no single host.
///
/// # Errors
/// [`BadAddress`], with what to write instead.
pub fn parse_address(text: &str) -> Result<SocketAddr, BadAddress> {
    let bad = |why| BadAddress { given: text.chars().take(MAX_SHOWN_CHARS).collect(), why };
    let Ok(address) = text.parse::<SocketAddr>() else {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let name = port.parse::<u16>().is_ok() && host.contains(|c: char| c.is_ascii_alphabetic());
        let name = name && !host.contains([':', '[']);
        return Err(bad(if name { ": host names are not looked up" } else { "" }));
    };
    let ip = address.ip().to_canonical();
    match address.port() {
        0 => Err(bad(": port 0 takes no connections")),
        _ if ip.is_unspecified() || ip.is_multicast() => Err(bad(": it names no single host")),
        _ => Ok(address),
    }
}
