//! The zone as it is served: names, whither they lead, and which addresses are left out for now.
//!
//! Immutable and cheap to clone: a change makes the next one, which shares all that did not change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA};
use hickory_proto::rr::{Name, RData, Record};
use imbl::OrdMap;

/// How long a secondary serves what it has while it cannot ask us: a week (RFC 1912 section 2.2 has two to four).
const EXPIRE_SECONDS: i32 = 7 * 24 * 3600;
/// How often it asks by itself. NOTIFY tells it at once; this is for one that was lost.
const REFRESH_SECONDS: i32 = 60;
const RETRY_SECONDS: i32 = 15;

/// Whither a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Another name, of which the zone may know nothing.
    Alias(Name),
    /// Those of its addresses that are good.
    Addresses(Arc<[IpAddr]>),
    /// A name server's own, good or not.
    Fixed(Arc<[IpAddr]>),
}

/// What stays the same from one revision to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apex {
    pub origin: Name,
    /// The first one is the primary (RFC 1035 section 3.3.13).
    pub nameservers: Vec<Name>,
    /// As a name.
    pub hostmaster: Name,
    /// In seconds.
    pub ttl: u32,
    /// How long a resolver may believe that a name does not exist, in seconds.
    pub negative_ttl: u32,
}

/// Addresses that are not good, each with a number that is higher the later it went bad.
pub type Down = BTreeMap<IpAddr, u64>;

#[derive(Debug, Clone)]
pub struct Zone {
    pub apex: Arc<Apex>,
    pub names: OrdMap<Name, Target>,
    pub down: Arc<Down>,
    /// Of this content.
    pub serial: u32,
    /// The registry's, as far as its changes are in here.
    pub revision: u64,
}

/// What there is at a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'z> {
    /// With the name that it was found by, `*.` in front where a wildcard covers it.
    Target { target: &'z Target, by: &'z Name },
    /// The zone's own name, which may lead somewhere besides.
    Origin(Option<&'z Target>),
    /// Names below it only.
    Nothing,
    /// It does not exist.
    NoName,
}

impl Zone {
    pub fn empty(apex: Apex) -> Self {
        let (names, down) = (OrdMap::new(), Arc::default());
        Self { apex: Arc::new(apex), names, down, serial: 0, revision: 0 }
    }

    /// Of a name in this zone (RFC 1034 section 4.3.2, RFC 4592).
    pub fn find(&self, name: &Name) -> Found<'_> {
        if *name == self.apex.origin {
            return Found::Origin(self.names.get(name));
        }
        if let Some((by, target)) = self.names.get_key_value(name) {
            return Found::Target { target, by };
        }
        if self.has_below(name) {
            return Found::Nothing;
        }
        let mut encloser = name.base_name();
        while self.apex.origin.zone_of(&encloser) {
            let wildcard = encloser.prepend_label("*").ok();
            if let Some((by, target)) = wildcard.and_then(|name| self.names.get_key_value(&name)) {
                return Found::Target { target, by };
            }
            // The closest one that exists decides, whether it has a wildcard or not.
            if encloser == self.apex.origin || self.names.contains_key(&encloser) || self.has_below(&encloser)
            {
                break;
            }
            encloser = encloser.base_name();
        }
        Found::NoName
    }

    /// The canonical order has a name right before those below it.
    fn has_below(&self, name: &Name) -> bool {
        let mut after = self.names.range(name.clone()..).map(|(name, _)| name);
        after.find(|found| *found != name).is_some_and(|found| name.zone_of(found))
    }

    /// Which of a name's addresses are given out: the good ones of each family; where none of a family is, those that
    /// were good last.
    pub fn serving<'a>(&self, target: &'a Target) -> Vec<&'a IpAddr> {
        match target {
            Target::Alias(_) => Vec::new(),
            Target::Fixed(all) => all.iter().collect(),
            Target::Addresses(all) => [true, false]
                .into_iter()
                .flat_map(|v4| self.best(all.iter().filter(|ip| ip.is_ipv4() == v4).collect()))
                .collect(),
        }
    }

    fn best<'a>(&self, family: Vec<&'a IpAddr>) -> Vec<&'a IpAddr> {
        let since = |ip: &IpAddr| self.down.get(ip).copied();
        // `None`, good, is less than every number.
        let Some(best) = family.iter().map(|ip| since(ip).unwrap_or(u64::MAX)).max() else {
            return family;
        };
        family.into_iter().filter(|ip| since(ip).unwrap_or(u64::MAX) == best).collect()
    }

    pub fn soa(&self, ttl: u32) -> Record {
        let Apex { origin, nameservers, hostmaster, negative_ttl, .. } = &*self.apex;
        let primary = nameservers.first().cloned().unwrap_or_else(|| origin.clone());
        let data = SOA::new(
            primary,
            hostmaster.clone(),
            self.serial,
            REFRESH_SECONDS,
            RETRY_SECONDS,
            EXPIRE_SECONDS,
            *negative_ttl,
        );
        Record::from_rdata(origin.clone(), ttl, RData::SOA(data))
    }

    pub fn ns(&self) -> impl Iterator<Item = Record> {
        let Apex { origin, nameservers, ttl, .. } = &*self.apex;
        nameservers.iter().map(|name| Record::from_rdata(origin.clone(), *ttl, RData::NS(NS(name.clone()))))
    }

    /// The records of a name that leads to `target`.
    pub fn records(&self, name: &Name, target: &Target) -> Vec<Record> {
        let record = |data| Record::from_rdata(name.clone(), self.apex.ttl, data);
        match target {
            Target::Alias(to) => vec![record(RData::CNAME(CNAME(to.clone())))],
            Target::Addresses(_) | Target::Fixed(_) => {
                self.serving(target).into_iter().map(|ip| record(data_of(*ip))).collect()
            }
        }
    }

    /// Whether a resolver could tell the two apart but for their serials.
    pub fn is_same(&self, other: &Self) -> bool {
        self.apex == other.apex
            && (self.names.ptr_eq(&other.names) || self.names == other.names)
            && (self.down == other.down
                || self.names.values().all(|target| self.serving(target) == other.serving(target)))
    }
}

pub fn data_of(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The next serial (RFC 1982): seconds of the clock, so that a restart needs no memory of the one before, and always
/// later than `last`, whatever the clock does.
pub fn next_serial(last: Option<u32>, now: u64) -> u32 {
    let clock = now as u32;
    let Some(last) = last else { return clock.max(1) };
    let is_later = (clock.wrapping_sub(last) as i32) > 0;
    let next = if is_later { clock } else { last.wrapping_add(1) };
    // BIND takes 0 for a zone that was never loaded.
    if next == 0 { 1 } else { next }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn name(text: &str) -> Name {
        let mut name = Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    }

    pub fn addresses(ips: &[&str]) -> Target {
        Target::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    pub fn zone(names: &[(&str, Target)]) -> Zone {
        let apex = Apex {
            origin: name("apps.test"),
            nameservers: vec![name("ns1.apps.test"), name("ns.elsewhere.test")],
            hostmaster: name("hostmaster.apps.test"),
            ttl: 30,
            negative_ttl: 10,
        };
        let names = names.iter().map(|(text, target)| (name(text), target.clone())).collect();
        Zone { names, serial: 7, ..Zone::empty(apex) }
    }

    #[test]
    fn a_name_is_found_by_itself_by_what_is_below_it_or_by_the_closest_wildcard() {
        let (one, two) = (addresses(&["192.0.2.1"]), addresses(&["192.0.2.2"]));
        let zone = zone(&[
            ("shop.apps.test", one.clone()),
            ("*.shop.apps.test", two.clone()),
            ("a.deep.apps.test", one.clone()),
            ("*.apps.test", two.clone()),
        ]);
        let by = |asked: &str| match zone.find(&name(asked)) {
            Found::Target { by, .. } => by.to_ascii(),
            other => format!("{other:?}"),
        };
        assert_eq!(by("SHOP.apps.test"), "shop.apps.test.");
        assert_eq!(by("x.shop.apps.test"), "*.shop.apps.test.");
        assert_eq!(by("y.x.shop.apps.test"), "*.shop.apps.test.");
        assert_eq!(by("other.apps.test"), "*.apps.test.");
        // RFC 4592 section 2.2.2: an empty name stops the wildcard above it, also for what is below.
        assert_eq!(by("deep.apps.test"), "Nothing");
        assert_eq!(by("b.deep.apps.test"), "NoName");
        assert_eq!(by("apps.test"), "Origin(None)");
    }

    #[test]
    fn bad_addresses_are_left_out_and_never_all_of_a_family() {
        let target = addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        let mut zone = zone(&[]);
        let serving = |zone: &Zone| {
            zone.serving(&target).into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(serving(&zone), "192.0.2.1 192.0.2.2 2001:db8::1");
        zone.down = Arc::new([(ip("192.0.2.1"), 1)].into());
        assert_eq!(serving(&zone), "192.0.2.2 2001:db8::1");
        zone.down = Arc::new([(ip("192.0.2.1"), 1), (ip("192.0.2.2"), 2), (ip("2001:db8::1"), 2)].into());
        assert_eq!(serving(&zone), "192.0.2.2 2001:db8::1", "the last good ones");
        zone.down = Arc::new([(ip("192.0.2.1"), 3), (ip("192.0.2.2"), 3)].into());
        assert_eq!(serving(&zone), "192.0.2.1 192.0.2.2 2001:db8::1", "both went at once");
    }

    #[test]
    fn serials_follow_the_clock_and_never_go_back() {
        assert_eq!(next_serial(None, 1_800_000_000), 1_800_000_000);
        assert_eq!(next_serial(Some(1_800_000_000), 1_800_000_000), 1_800_000_001);
        assert_eq!(next_serial(Some(1_800_000_005), 1_800_000_000), 1_800_000_006, "the clock was set back");
        assert_eq!(next_serial(Some(u32::MAX), u64::from(u32::MAX)), 1);
        assert_eq!(next_serial(Some(u32::MAX), u64::from(u32::MAX) + 3), 2);
    }
}
