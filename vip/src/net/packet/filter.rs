//! The filter in the kernel: of a busy link's packets only those wake us that may claim one of our
//! addresses. It is a sieve, not the judge: [`super::claim`] reads what passes.
//!
//! Classic BPF (linux/filter.h). An address is compared by its last four bytes, which all but never
//! are those of another one, and takes two instructions; a program has 4,096.

use std::net::IpAddr;

use socket2::SockFilter;

use super::super::interface::Mac;
use super::{ETHERTYPE_ARP, ETHERTYPE_IPV6};

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// "Offsets" at which the kernel keeps what it knows of a packet: SKF_AD_OFF and further.
const ANCILLARY: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = ANCILLARY + 4;
const VLAN_PRESENT: u32 = ANCILLARY + 48;
/// For another host: seen in promiscuous mode only.
const OTHER_HOST: u32 = 3;
/// What went out.
const OUTGOING: u32 = 4;
/// As much of a packet as is of interest.
const SNAPSHOT: u32 = 256;

/// More of one family are not compared, and all claims pass. Twice two instructions for each fit in a program.
const MOST_COMPARED: usize = 1000;

/// A program that passes ARP packets whose sender is one of `vips`.
pub(super) fn arp(vips: &[IpAddr], own: Mac) -> Vec<SockFilter> {
    let mut program = preamble(ETHERTYPE_ARP, own);
    let words: Vec<u32> = vips.iter().filter(|ip| ip.is_ipv4()).map(|ip| last_word(*ip)).collect();
    passing(&mut program, 28, &words);
    program.push(refuse());
    program
}

/// A program that passes neighbour advertisements of one of `vips`, and solicitations from one.
pub(super) fn neighbour(vips: &[IpAddr], own: Mac) -> Vec<SockFilter> {
    let mut program = preamble(ETHERTYPE_IPV6, own);
    let words: Vec<u32> = vips.iter().filter(|ip| ip.is_ipv6()).map(|ip| last_word(*ip)).collect();
    // Next header: ICMPv6.
    load(&mut program, LOAD_BYTE, 20);
    require(&mut program, 58);
    load(&mut program, LOAD_BYTE, 54);
    program.push(SockFilter::new(JUMP_EQUAL, 2, 0, 136));
    program.push(SockFilter::new(JUMP_EQUAL, 1, 0, 135));
    program.push(refuse());
    // One list for both: the target's last word, then the source's, which in an advertisement is the same or
    // nobody's.
    passing(&mut program, 74, &words);
    passing(&mut program, 34, &words);
    program.push(refuse());
    program
}

/// Nothing that was sent by us, to others or on another network.
fn preamble(kind: u16, own: Mac) -> Vec<SockFilter> {
    let mut program = Vec::new();
    load(&mut program, LOAD_WORD, PACKET_TYPE);
    refuse_if(&mut program, OTHER_HOST);
    refuse_if(&mut program, OUTGOING);
    load(&mut program, LOAD_WORD, VLAN_PRESENT);
    require(&mut program, 0);
    load(&mut program, LOAD_HALF, 12);
    require(&mut program, kind.into());
    // The frame's source: what a loop in the network sends back to us.
    load(&mut program, LOAD_WORD, 8);
    program.push(SockFilter::new(JUMP_EQUAL, 0, 3, u32::from_be_bytes([own[2], own[3], own[4], own[5]])));
    load(&mut program, LOAD_HALF, 6);
    refuse_if(&mut program, u16::from_be_bytes([own[0], own[1]]).into());
    program
}

/// Passes packets with one of `words` at `offset`.
fn passing(program: &mut Vec<SockFilter>, offset: u32, words: &[u32]) {
    if words.len() > MOST_COMPARED {
        program.push(pass());
        return;
    }
    load(program, LOAD_WORD, offset);
    for word in words {
        program.push(SockFilter::new(JUMP_EQUAL, 0, 1, *word));
        program.push(pass());
    }
}

fn load(program: &mut Vec<SockFilter>, size: u16, offset: u32) {
    program.push(SockFilter::new(size, 0, 0, offset));
}

fn require(program: &mut Vec<SockFilter>, value: u32) {
    program.push(SockFilter::new(JUMP_EQUAL, 1, 0, value));
    program.push(refuse());
}

fn refuse_if(program: &mut Vec<SockFilter>, value: u32) {
    program.push(SockFilter::new(JUMP_EQUAL, 0, 1, value));
    program.push(refuse());
}

fn pass() -> SockFilter {
    SockFilter::new(RETURN, 0, 0, SNAPSHOT)
}

fn refuse() -> SockFilter {
    SockFilter::new(RETURN, 0, 0, 0)
}

fn last_word(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits(),
        // The lower half of the lower half.
        IpAddr::V6(ip) => ip.to_bits() as u32,
    }
}
