//! ARP for IPv4 on Ethernet: RFC 826.

use std::net::Ipv4Addr;

use super::super::interface::Mac;
use super::{BROADCAST, Claim, ETHERTYPE_ARP, ethernet};

pub(super) const REQUEST: u16 = 1;
pub(super) const REPLY: u16 = 2;
/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const PACKET: usize = 28;

/// Says to everybody that `ip` is at `mac`.
pub(super) fn gratuitous(operation: u16, ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend_from_slice(&KIND);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ip.octets());
    // A request asks for it, so it is unknown; a reply names it.
    frame.extend_from_slice(&if operation == REQUEST { [0; 6] } else { mac });
    frame.extend_from_slice(&ip.octets());
    frame
}

/// Whoever receives an ARP packet may learn its sender, whatever it asks (RFC 826, "Packet Reception").
pub(super) fn claim(packet: &[u8]) -> Option<Claim> {
    let (packet, _) = packet.split_first_chunk::<PACKET>()?;
    let is_arp = packet[..6] == KIND && packet[6] == 0 && matches!(u16::from(packet[7]), REQUEST | REPLY);
    let mac = [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]];
    let ip = Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]);
    (is_arp && !ip.is_unspecified()).then_some(Claim { ip: ip.into(), mac })
}
