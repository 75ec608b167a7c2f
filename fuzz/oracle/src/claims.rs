//! Frames that claim an address.

use std::net::IpAddr;

use vip::net::packet::{announcement, claim};

/// A frame as it arrives on an interface. What it claims is an address of somebody's, found in the frame, and
/// is claimed by its announcement as well; padding behind an ARP packet changes nothing.
///
/// # Panics
/// Where that is broken.
pub fn address_claims(frame: &[u8]) {
    let Some(found) = claim(frame) else { return };
    assert!(!found.ip.is_unspecified());
    assert!(frame.windows(6).any(|bytes| bytes == found.mac));
    let named = match found.ip {
        IpAddr::V4(ip) => frame.windows(4).any(|bytes| bytes == ip.octets()),
        IpAddr::V6(ip) => frame.windows(16).any(|bytes| bytes == ip.octets()),
    };
    assert!(named, "{found:?} is not in {}", super::shown(frame));
    for again in announcement(found.ip, found.mac) {
        assert_eq!(claim(&again), Some(found));
    }
    if found.ip.is_ipv4() {
        assert_eq!(claim(&[frame, &[0; 32]].concat()), Some(found));
    }
}
