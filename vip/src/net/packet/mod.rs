//! Whole Ethernet frames: what announces an address, and what claims one.

mod arp;
mod filter;
mod neighbour;
mod socket;

use std::net::IpAddr;

pub use socket::{Frame, PacketSocket};

use super::interface::Mac;

const BROADCAST: Mac = [0xff; 6];
const ETHERNET: usize = 14;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Somebody says that an address is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub ip: IpAddr,
    /// The hardware address at which others will look for it.
    pub mac: Mac,
}

/// The frames that tell everybody on the link that `ip` is at `mac` now.
///
/// IPv4: a gratuitous ARP request and a gratuitous reply, since systems differ in which of them they heed
/// (RFC 5227 section 3). IPv6: an unsolicited neighbour advertisement to all nodes, with Override (RFC 4861
/// section 7.2.6).
pub fn announcement(ip: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![arp::gratuitous(arp::REQUEST, ip, mac), arp::gratuitous(arp::REPLY, ip, mac)],
        IpAddr::V6(ip) => vec![neighbour::advertisement(ip, mac)],
    }
}

/// What a frame claims, if it claims anything: an ARP packet from an address, a neighbour advertisement of
/// one, a neighbour solicitation from one. Questions that only ask for an address claim nothing, nor do probes
/// of somebody who has none yet (RFC 5227 section 2.1.1).
///
/// `frame` is anybody's: any bytes, of any length.
pub fn claim(frame: &[u8]) -> Option<Claim> {
    let (header, rest) = frame.split_first_chunk::<ETHERNET>()?;
    let source = [header[6], header[7], header[8], header[9], header[10], header[11]];
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_ARP => arp::claim(rest),
        ETHERTYPE_IPV6 => neighbour::claim(rest, source),
        _ => None,
    }
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + 72);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn a_gratuitous_request_is_bytes_for_bytes_what_rfc_5227_asks() {
        let frames = announcement("10.1.2.3".parse().unwrap(), MAC);
        let expected = [
            &[0xff; 6][..],
            &MAC,
            &[8, 6],                   // Ethernet
            &[0, 1, 8, 0, 6, 4, 0, 1], // of Ethernet and IPv4, a request
            &MAC,
            &[10, 1, 2, 3], // sender
            &[0; 6],
            &[10, 1, 2, 3], // target
        ];
        assert_eq!(frames[0], expected.concat());
        let expected = [
            &[0xff; 6][..],
            &MAC,
            &[8, 6],
            &[0, 1, 8, 0, 6, 4, 0, 2], // a reply
            &MAC,
            &[10, 1, 2, 3],
            &MAC,
            &[10, 1, 2, 3],
        ];
        assert_eq!(frames[1], expected.concat());
    }

    #[test]
    fn an_unsolicited_advertisement_is_bytes_for_bytes_what_rfc_4861_asks() {
        let ip: std::net::Ipv6Addr = "fd00::c8".parse().unwrap();
        let all_nodes: std::net::Ipv6Addr = "ff02::1".parse().unwrap();
        let frames = announcement(ip.into(), MAC);
        let expected = [
            &[0x33, 0x33, 0, 0, 0, 1][..],
            &MAC,
            &[0x86, 0xdd],
            &[0x60, 0, 0, 0, 0, 32, 58, 255],
            &ip.octets(),
            &all_nodes.octets(),
            // Advertisement; the checksum was calculated by hand; Override alone.
            &[136, 0, 0x59, 0x07, 0x20, 0, 0, 0],
            &ip.octets(),
            // Target link-layer address.
            &[2, 1],
            &MAC,
        ];
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0], expected.concat());
    }

    #[test]
    fn what_is_announced_is_a_claim() {
        for ip in ["10.1.2.3", "fd00::c8"].map(|ip| ip.parse().unwrap()) {
            for frame in announcement(ip, MAC) {
                assert_eq!(claim(&frame), Some(Claim { ip, mac: MAC }));
                // No prefix of it is one.
                for end in 0..frame.len() {
                    let found = claim(&frame[..end]);
                    // Where the option with the hardware address is cut off, the frame's source stands in.
                    assert!(found.is_none() || ip.is_ipv6() && end >= 78, "{end} bytes: {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_question_and_a_probe_claim_nothing_of_what_they_ask_for() {
        let vip = [10, 1, 2, 3];
        let mut question = announcement(IpAddr::from(vip), MAC).remove(0);
        question[28..32].copy_from_slice(&[10, 1, 2, 9]);
        assert_eq!(claim(&question), Some(Claim { ip: IpAddr::from([10, 1, 2, 9]), mac: MAC }));
        question[28..32].copy_from_slice(&[0; 4]);
        assert_eq!(claim(&question), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_claim_or_not(frame in prop::collection::vec(any::<u8>(), 0..256)) {
            claim(&frame);
        }

        #[test]
        fn a_frame_that_almost_is_one_does_no_harm(
            six in any::<bool>(), at in 0usize..86, byte in any::<u8>(), length in 0usize..90,
        ) {
            let ip = if six { "fd00::c8" } else { "10.1.2.3" };
            for mut frame in announcement(ip.parse().unwrap(), MAC) {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
                frame.truncate(length);
                if let Some(found) = claim(&frame) {
                    prop_assert!(!found.ip.is_unspecified());
                }
            }
        }
    }
}
