//! One transaction of nf_tables, as messages: linux/netfilter/nf_tables.h. Numbers are in network order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::netlink::Requests;
use super::rules::{self, Chain, Rule};

pub(super) const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The verdict of a chain that no rule has decided.
const ACCEPT: u32 = 1;
/// Elements have timeouts.
const SET_TIMEOUT: u32 = 0x10;

pub(super) const NEWTABLE: u16 = 0;
pub(super) const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
pub(super) const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
pub(super) const GETRULE: u16 = 7;
const NEWSET: u16 = 9;
pub(super) const GETSET: u16 = 10;
const NEWSETELEM: u16 = 12;
pub(super) const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

/// Elements in one message: an attribute has at most 64 KiB, and the longest element 52 bytes.
const ELEMENTS_AT_ONCE: usize = 1000;

/// An address and how long it is let through. `None`: not.
pub(super) type Kept = (IpAddr, Option<Duration>);

/// The families that have a table each.
pub(super) const TABLES: [u8; 2] = [rules::ARP, rules::INET];

/// A set that both tables or one of them have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub name: &'static str,
    /// What `nft list` shows the elements as, and their length.
    kind: (u32, u32),
    pub timeout: bool,
}

const IPV4: (u32, u32) = (7, 4);
const IPV6: (u32, u32) = (8, 16);
const MARK: (u32, u32) = (19, 4);

pub(super) const VIPS4: Set = Set { name: "vips4", kind: IPV4, timeout: false };
pub(super) const VIPS6: Set = Set { name: "vips6", kind: IPV6, timeout: false };
pub(super) const HELD4: Set = Set { name: "held4", kind: IPV4, timeout: true };
pub(super) const HELD6: Set = Set { name: "held6", kind: IPV6, timeout: true };
/// Holds the token of a refresh: see the module `fence`.
pub(super) const FRESH: Set = Set { name: "fresh", kind: MARK, timeout: true };

/// The sets of addresses that the table of `family` has: the fenced ones, the held ones.
pub(super) fn sets_of(family: u8) -> &'static [Set] {
    if family == rules::ARP { &[VIPS4, HELD4] } else { &[VIPS4, HELD4, VIPS6, HELD6] }
}

/// Messages that are carried out altogether or not at all.
pub(super) struct Batch {
    requests: Requests,
    table: Arc<str>,
    next_set: u32,
}

impl Batch {
    pub fn begin(mut requests: Requests, table: &Arc<str>) -> Self {
        requests.begin(BATCH_BEGIN, 0, &generic(libc::AF_UNSPEC as u8, SUBSYSTEM));
        requests.end();
        Self { requests, table: table.clone(), next_set: 1 }
    }

    /// The bytes, and the number of the message that will be acknowledged: the last one that says something,
    /// since only newer kernels acknowledge the end.
    pub fn end(mut self) -> (Requests, u32) {
        let last = self.requests.acknowledge_last();
        self.requests.begin(BATCH_END, 0, &generic(libc::AF_UNSPEC as u8, SUBSYSTEM));
        self.requests.end();
        (self.requests, last)
    }

    /// Replaces the elements of `kept`.
    pub fn replace(&mut self, kept: &[Kept]) {
        let gone: Vec<IpAddr> = kept.iter().map(|(ip, _)| *ip).collect();
        self.close(&gone);
        self.hold(kept);
    }

    /// Takes `ips` out of the held ones. What is not there cannot be taken out, so it is put in first.
    pub fn close(&mut self, ips: &[IpAddr]) {
        for family in TABLES {
            for set in held_of(family) {
                let keys = keys(ips, *set);
                let lifetime = Some(super::FRESHNESS);
                let present: Vec<_> = keys.iter().map(|key| (*key, lifetime)).collect();
                self.elements(NEWSETELEM, family, *set, &present);
                let absent: Vec<_> = keys.iter().map(|key| (*key, None)).collect();
                self.elements(DELSETELEM, family, *set, &absent);
            }
        }
    }

    fn hold(&mut self, kept: &[Kept]) {
        for family in TABLES {
            for set in held_of(family) {
                let open = kept.iter().filter_map(|(ip, left)| Some((key(*ip, *set)?, Some((*left)?))));
                let open: Vec<_> = open.collect();
                self.elements(NEWSETELEM, family, *set, &open);
            }
        }
    }

    /// Both tables from nothing, whatever they were, with `kept` held.
    pub fn build(&mut self, vips: &[IpAddr], kept: &[Kept]) {
        for family in TABLES {
            let table = self.table.clone();
            self.delete_table(family, &table);
            self.create_table(family, &table);
            for set in sets_of(family) {
                self.create_set(family, &table, *set);
            }
            for chain in rules::chains(family) {
                self.create_chain(family, chain);
                for rule in chain.rules {
                    self.create_rule(family, chain, rule);
                }
            }
            for set in sets_of(family).iter().filter(|set| !set.timeout) {
                let fenced: Vec<_> = keys(vips, *set).into_iter().map(|key| (key, None)).collect();
                self.elements(NEWSETELEM, family, *set, &fenced);
            }
        }
        self.hold(kept);
    }

    /// Where there are none, this is nothing.
    pub fn remove(&mut self) {
        for family in TABLES {
            self.delete_table(family, &self.table.clone());
        }
        self.delete_table(rules::INET, &clock_of(&self.table));
    }

    /// Makes the token, and what it needs where that is missing.
    pub fn put_token(&mut self, token: u32, lifetime: Duration) {
        let clock = clock_of(&self.table);
        self.create_table(rules::INET, &clock);
        self.create_set(rules::INET, &clock, FRESH);
        self.token(NEWSETELEM, &clock, token, Some(lifetime));
    }

    /// Fails, and everything with it, when the token has expired. Returns the message's number.
    pub fn take_token(&mut self, token: u32) -> u32 {
        self.token(DELSETELEM, &clock_of(&self.table), token, None)
    }

    fn token(&mut self, kind: u16, clock: &str, token: u32, lifetime: Option<Duration>) -> u32 {
        let sequence = self.message(kind, creating(kind), rules::INET);
        self.requests.put_text(1, clock).put_text(2, FRESH.name);
        self.requests.nest(3, |list| put_element(list, &token.to_ne_bytes(), lifetime)).end();
        sequence
    }

    fn create_table(&mut self, family: u8, name: &str) {
        self.message(NEWTABLE, libc::NLM_F_CREATE, family);
        self.requests.put_text(1, name).put_be32(2, 0).end();
    }

    fn delete_table(&mut self, family: u8, name: &str) {
        // What is not there cannot be deleted.
        self.create_table(family, name);
        self.message(DELTABLE, 0, family);
        self.requests.put_text(1, name).end();
    }

    fn create_set(&mut self, family: u8, table: &str, set: Set) {
        let id = self.next_set;
        self.next_set += 1;
        self.message(NEWSET, libc::NLM_F_CREATE, family);
        self.requests.put_text(1, table).put_text(2, set.name);
        self.requests.put_be32(3, if set.timeout { SET_TIMEOUT } else { 0 });
        self.requests.put_be32(4, set.kind.0).put_be32(5, set.kind.1).put_be32(10, id).end();
    }

    fn create_chain(&mut self, family: u8, chain: &Chain) {
        self.message(NEWCHAIN, libc::NLM_F_CREATE, family);
        self.requests.put_text(1, &self.table).put_text(3, chain.name);
        self.requests.nest(4, |hook| {
            hook.put_be32(1, chain.hook).put_be32(2, rules::PRIORITY.cast_unsigned());
        });
        self.requests.put_be32(5, ACCEPT).put_text(7, "filter").end();
    }

    fn create_rule(&mut self, family: u8, chain: &Chain, rule: &Rule) {
        self.message(NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, family);
        self.requests.put_text(1, &self.table).put_text(2, chain.name);
        self.requests.nest(4, |list| rule.iter().for_each(|part| part.write(list)));
        self.requests.end();
    }

    fn elements(&mut self, kind: u16, family: u8, set: Set, elements: &[(Key, Option<Duration>)]) {
        for some in elements.chunks(ELEMENTS_AT_ONCE) {
            self.message(kind, creating(kind), family);
            self.requests.put_text(1, &self.table).put_text(2, set.name);
            self.requests.nest(3, |list| {
                for ((bytes, length), lifetime) in some {
                    put_element(list, &bytes[..*length], *lifetime);
                }
            });
            self.requests.end();
        }
    }

    fn message(&mut self, kind: u16, flags: i32, family: u8) -> u32 {
        self.requests.begin(SUBSYSTEM << 8 | kind, flags, &generic(family, 0))
    }
}

/// The table that holds the token. It outlives the others, so that it can be taken away by the transaction that
/// makes those anew.
pub(super) fn clock_of(table: &str) -> String {
    format!("{table}_clock")
}

/// An address as a set has it: the bytes, and how many.
type Key = ([u8; 16], usize);

fn key(ip: IpAddr, set: Set) -> Option<Key> {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    let length = if ip.is_ipv4() { 4 } else { 16 };
    (set.kind.1 as usize == length).then_some((bytes, length))
}

fn keys(ips: &[IpAddr], set: Set) -> Vec<Key> {
    ips.iter().filter_map(|ip| key(*ip, set)).collect()
}

fn held_of(family: u8) -> impl Iterator<Item = &'static Set> {
    sets_of(family).iter().filter(|set| set.timeout)
}

fn put_element(list: &mut Requests, key: &[u8], lifetime: Option<Duration>) {
    list.nest(1, |element| {
        element.nest(1, |data| {
            data.put(1, key);
        });
        if let Some(lifetime) = lifetime {
            // At most a lease: it fits.
            element.put_be64(4, lifetime.as_millis() as u64);
        }
    });
}

fn creating(kind: u16) -> i32 {
    if kind == NEWSETELEM { libc::NLM_F_CREATE } else { 0 }
}

/// `struct nfgenmsg`.
pub(super) fn generic(family: u8, resource: u16) -> [u8; 4] {
    let resource = resource.to_be_bytes();
    [family, 0, resource[0], resource[1]]
}
