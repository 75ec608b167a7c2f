//! Neighbour discovery for IPv6: RFC 4861.

use std::net::Ipv6Addr;

use super::super::interface::Mac;
use super::{Claim, ETHERTYPE_IPV6, ethernet};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;
/// Messages of neighbour discovery that came through a router are none.
const HOP_LIMIT: u8 = 255;
/// Replaces what neighbours believe.
const OVERRIDE: u8 = 0x20;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const IPV6: usize = 40;
/// Both messages without options: type, code, checksum, flags, target.
const MESSAGE: usize = 24;
/// Options of one message; no message of use has more.
const MOST_OPTIONS: usize = 8;

/// Says to everybody that `ip` is at `mac`. Not as a router: nobody has a virtual IP as a default route.
pub(super) fn advertisement(ip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend_from_slice(&ip.octets());
    message.extend_from_slice(&[OPTION_TARGET, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum(ip, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    // Version 6; the message is short.
    let length = (message.len() as u16).to_be_bytes();
    frame.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&ip.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend_from_slice(&message);
    frame
}

/// `source`: the frame's, for messages that do not say where the address is.
pub(super) fn claim(packet: &[u8], source: Mac) -> Option<Claim> {
    let (header, rest) = packet.split_first_chunk::<IPV6>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A frame may be padded.
    let message = rest.get(..length.min(rest.len()))?;
    let (fixed, options) = message.split_first_chunk::<MESSAGE>()?;
    let genuine = header[0] >> 4 == 6 && header[6] == ICMPV6 && header[7] == HOP_LIMIT && fixed[1] == 0;
    let (ip, option) = match fixed[0] {
        ADVERTISEMENT => (address(&fixed[8..24])?, OPTION_TARGET),
        // Neighbours learn from whom the question is.
        SOLICITATION => (address(&header[8..24])?, OPTION_SOURCE),
        _ => return None,
    };
    let mac = link_layer(options, option).unwrap_or(source);
    (genuine && !ip.is_unspecified() && !ip.is_multicast()).then_some(Claim { ip: ip.into(), mac })
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

/// The hardware address in an option of the kind `wanted`: type, length in units of eight bytes, value.
fn link_layer(mut options: &[u8], wanted: u8) -> Option<Mac> {
    for _ in 0..MOST_OPTIONS {
        let (head, _) = options.split_first_chunk::<8>()?;
        if head[0] == wanted && head[1] == 1 {
            return Some([head[2], head[3], head[4], head[5], head[6], head[7]]);
        }
        // A length of 0 is no option and would never end.
        options = options.get(usize::from(head[1]).max(1) * 8..)?;
    }
    None
}

/// The internet checksum over the pseudo header and `message`: RFC 8200 section 8.1. `message` is of even length.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = [&from.octets()[..], &to.octets()[..], message];
    let words =
        words.iter().flat_map(|part| part.chunks_exact(2)).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut sum: u32 = message.len() as u32 + u32::from(ICMPV6) + words.map(u32::from).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
