//! PROXY protocol headers.

use gateway::listener::proxy_protocol::{Addresses, FirstBytes, MAX_HEADER_BYTES, read_header, write_header};
use topology::ProxyVersion;

use crate::shown;

/// Of a line of version 1.
const MAX_LINE_BYTES: usize = 107;

/// `input` is what a connection begins with.
///
/// # Panics
/// When more than the header, or less, would be taken; when an answer depends on how much has arrived; or
/// when addresses are not read back as they are written.
pub fn proxy_header(input: &[u8]) {
    let whole = read_header(input);
    let decided = (0..=input.len()).find(|end| read_header(&input[..*end]) != FirstBytes::NeedMore);
    match decided {
        None => assert!(input.len() < MAX_HEADER_BYTES, "nobody is waited for beyond the bound"),
        Some(end) => {
            assert_eq!(read_header(&input[..end]), whole, "{}", shown(input));
            if let FirstBytes::Header { length, addresses } = whole {
                assert_eq!(length, end, "a header is known at its last byte: {}", shown(input));
                check(&input[..length], addresses);
            }
        }
    }
}

fn check(header: &[u8], addresses: Option<Addresses>) {
    let is_line = header.starts_with(b"PROXY ");
    assert!(header.len() <= if is_line { MAX_LINE_BYTES } else { MAX_HEADER_BYTES });
    assert!(!is_line || header.iter().position(|byte| *byte == b'\n') == Some(header.len() - 1));
    let Some(addresses) = addresses else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut written = Vec::new();
        write_header(version, addresses, &mut written);
        let FirstBytes::Header { length, addresses: Some(read) } = read_header(&written) else {
            panic!("what we write is no header: {}", shown(&written));
        };
        assert_eq!(length, written.len());
        assert_eq!(plain(read), plain(addresses));
        // Of version 4 addresses a line has one spelling.
        if version == ProxyVersion::V1 && header.starts_with(b"PROXY TCP4 ") {
            assert_eq!(shown(&written), shown(header));
        }
    }
}

/// IPv4 addresses that are written as IPv6 are the same addresses.
fn plain(addresses: Addresses) -> [(std::net::IpAddr, u16); 2] {
    [addresses.source, addresses.destination].map(|address| (address.ip().to_canonical(), address.port()))
}
