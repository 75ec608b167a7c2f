//! What the fence drops, as expressions of nf_tables. In nft's words, with `vips4` the fenced addresses
//! and `held4` the ones that are held:
//!
//! ```text
//! table arp sluice_vip {
//!     chain input  { type filter hook input priority -310;  arp operation request arp daddr ip @vips4 arp daddr ip != @held4 drop }
//!     chain output { type filter hook output priority -310; arp saddr ip @vips4 arp saddr ip != @held4 drop }
//! }
//! table inet sluice_vip {
//!     chain prerouting { ip daddr @vips4 ip daddr != @held4 fib daddr type local drop; the same for ip6 }
//!     chain input      { icmpv6 type nd-neighbor-solicit icmpv6 taddr @vips6 icmpv6 taddr != @held6 drop }
//!     chain output     { ip saddr @vips4 ip saddr != @held4 drop; the same for ip6
//!                        icmpv6 type nd-neighbor-advert icmpv6 taddr @vips6 icmpv6 taddr != @held6 drop }
//! }
//! ```
//!
//! *Requests* alone are dropped on ARP's way in: gratuitous replies of the next holder must reach this host's
//! own neighbour cache. *Output* is fenced because a stopped process's kernel goes on: it sends again what nobody has
//! acknowledged, and asks for its neighbours as the virtual IP, by which they would learn the wrong way back.
//! *Local* on the way in: what a router or a bridge on this host passes on to the holder is none of ours.

use super::super::netlink::Requests;

pub(super) const INET: u8 = 1;
const IPV4: u8 = 2;
pub(super) const ARP: u8 = 3;
const IPV6: u8 = 10;

/// Before connection tracking and whatever translates addresses (-300 and later), after defragmentation.
pub(super) const PRIORITY: i32 = -310;

/// A chain at a hook of its family's.
#[derive(Debug)]
pub(super) struct Chain {
    pub name: &'static str,
    pub hook: u32,
    pub rules: &'static [&'static Rule],
}

pub(super) type Rule = [Part];

/// A step of a rule: loads into the one register, or goes on only where the register is right.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The family of a packet, in `inet`.
    Family(u8),
    /// The protocol above IP, behind extension headers.
    Protocol(u8),
    /// Bytes of the network header: offset, length.
    Network(u32, u32),
    /// Bytes of the header above.
    Transport(u32, u32),
    Is(&'static [u8]),
    In(&'static str),
    NotIn(&'static str),
    /// The destination is an address of this host.
    ToUs,
    Drop,
}

use Part::{Drop, Family, In, Is, Network, NotIn, Protocol, ToUs, Transport};

const REQUEST: Part = Is(&[0, 1]);
const ICMPV6: u8 = 58;
const SOLICITATION: Part = Is(&[135]);
const ADVERTISEMENT: Part = Is(&[136]);

/// Offsets in an ARP packet of Ethernet and IPv4.
const ARP_OPERATION: Part = Network(6, 2);
const ARP_SENDER: Part = Network(14, 4);
const ARP_TARGET: Part = Network(24, 4);
const V4_SOURCE: Part = Network(12, 4);
const V4_DESTINATION: Part = Network(16, 4);
const V6_SOURCE: Part = Network(8, 16);
const V6_DESTINATION: Part = Network(24, 16);
const ICMP_TYPE: Part = Transport(0, 1);
/// Of both neighbour messages.
const ND_TARGET: Part = Transport(8, 16);

const ARP_CHAINS: [Chain; 2] = [
    Chain {
        name: "input",
        hook: 0,
        rules: &[&[ARP_OPERATION, REQUEST, ARP_TARGET, In("vips4"), NotIn("held4"), Drop]],
    },
    Chain { name: "output", hook: 1, rules: &[&[ARP_SENDER, In("vips4"), NotIn("held4"), Drop]] },
];

const INET_CHAINS: [Chain; 3] = [
    Chain {
        name: "prerouting",
        hook: 0,
        rules: &[
            &[Family(IPV4), V4_DESTINATION, In("vips4"), NotIn("held4"), ToUs, Drop],
            &[Family(IPV6), V6_DESTINATION, In("vips6"), NotIn("held6"), ToUs, Drop],
        ],
    },
    Chain {
        name: "input",
        hook: 1,
        rules: &[&[
            Family(IPV6),
            Protocol(ICMPV6),
            ICMP_TYPE,
            SOLICITATION,
            ND_TARGET,
            In("vips6"),
            NotIn("held6"),
            Drop,
        ]],
    },
    Chain {
        name: "output",
        hook: 3,
        rules: &[
            &[Family(IPV4), V4_SOURCE, In("vips4"), NotIn("held4"), Drop],
            &[Family(IPV6), V6_SOURCE, In("vips6"), NotIn("held6"), Drop],
            &[
                Family(IPV6),
                Protocol(ICMPV6),
                ICMP_TYPE,
                ADVERTISEMENT,
                ND_TARGET,
                In("vips6"),
                NotIn("held6"),
                Drop,
            ],
        ],
    },
];

pub(super) fn chains(family: u8) -> &'static [Chain] {
    if family == ARP { &ARP_CHAINS } else { &INET_CHAINS }
}

/// The register of 16 bytes that everything is loaded into, and the one that holds verdicts.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
const DROP: u32 = 0;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// What fib finds out, and of what.
const FIB_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;

impl Part {
    /// Appends it to a rule's list of expressions.
    pub fn write(self, list: &mut Requests) {
        match self {
            Family(family) => {
                meta(list, META_NFPROTO);
                compare(list, &[family]);
            }
            Protocol(protocol) => {
                meta(list, META_L4PROTO);
                compare(list, &[protocol]);
            }
            Network(offset, length) => payload(list, 1, offset, length),
            Transport(offset, length) => payload(list, 2, offset, length),
            Is(bytes) => compare(list, bytes),
            In(set) => lookup(list, set, 0),
            NotIn(set) => lookup(list, set, 1),
            ToUs => {
                expression(list, "fib", |fib| {
                    fib.put_be32(1, REGISTER).put_be32(2, FIB_TYPE).put_be32(3, FIB_DESTINATION);
                });
                // A number of the host's own order, as registers hold them.
                compare(list, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
            }
            Drop => expression(list, "immediate", |immediate| {
                immediate.put_be32(1, VERDICT).nest(2, |data| {
                    data.nest(2, |verdict| {
                        verdict.put_be32(1, DROP);
                    });
                });
            }),
        }
    }
}

fn meta(list: &mut Requests, key: u32) {
    expression(list, "meta", |meta| {
        meta.put_be32(2, key).put_be32(1, REGISTER);
    });
}

fn payload(list: &mut Requests, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |payload| {
        payload.put_be32(1, REGISTER).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
    });
}

/// Goes on where they are equal.
fn compare(list: &mut Requests, bytes: &[u8]) {
    expression(list, "cmp", |compare| {
        compare.put_be32(1, REGISTER).put_be32(2, 0).nest(3, |data| {
            data.put(1, bytes);
        });
    });
}

fn lookup(list: &mut Requests, set: &str, flags: u32) {
    expression(list, "lookup", |lookup| {
        lookup.put_text(1, set).put_be32(2, REGISTER).put_be32(5, flags);
    });
}

fn expression(list: &mut Requests, name: &str, fill: impl FnOnce(&mut Requests)) {
    list.nest(1, |expression| {
        expression.put_text(1, name).nest(2, fill);
    });
}
