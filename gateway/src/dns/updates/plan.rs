//! What has to be written to another server so that it has our names: from what is wanted and what is there, and nothing
//! that is not ours.
//!
//! A name is ours if `_sluice-owner.{name}` says so: a TXT record that is written and removed with it, in one update that
//! the server refuses as a whole if things are not as they were seen. What lacks it was made by somebody else and stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::dns::zone::data_of;

const MARKER: &str = "_sluice-owner";
/// In a marker's name, where the name has `*`: that would be a wildcard of its own.
const WILDCARD: &str = "_wildcard";
/// What we write, and what we replace.
const TYPES: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::CNAME];

/// Whither a name should lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Alias(Name),
    Addresses(BTreeSet<IpAddr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Ours,
    Theirs,
}

/// What there is at a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    addresses: BTreeSet<IpAddr>,
    alias: Option<Name>,
    marker: Option<Marker>,
    /// Of types that are none of ours.
    has_others: bool,
}

/// What another server has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present(BTreeMap<Name, Held>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Create { name: Name, wanted: Wanted },
    Replace { name: Name, wanted: Wanted },
    Remove { name: Name },
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Names that somebody else has, and what is in the way.
    pub conflicts: Vec<(Name, &'static str)>,
}

/// Who we are to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub zone: Name,
    pub owner: String,
    /// In seconds.
    pub ttl: u32,
}

impl Present {
    /// From the records of a transfer.
    pub fn read(records: &[Record], writer: &Writer) -> Self {
        let mut names: BTreeMap<Name, Held> = BTreeMap::new();
        let ours = writer.owner_text();
        for record in records {
            if let Some(name) = marked(&record.name) {
                let marker = match &record.data {
                    RData::TXT(text) if is_text(text, &ours) => Marker::Ours,
                    _ => Marker::Theirs,
                };
                let held = names.entry(name).or_default();
                // One that says something else besides is not for us to judge.
                held.marker = match held.marker {
                    Some(other) if other != marker => Some(Marker::Theirs),
                    _ => Some(marker),
                };
                continue;
            }
            let held = names.entry(record.name.to_lowercase()).or_default();
            match &record.data {
                RData::A(ip) => held.addresses.extend([IpAddr::from(ip.0)]),
                RData::AAAA(ip) => held.addresses.extend([IpAddr::from(ip.0)]),
                RData::CNAME(to) => held.alias = Some(to.0.to_lowercase()),
                _ => held.has_others = true,
            }
        }
        Self(names)
    }

    /// After a step that the server has taken.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Remove { name } => {
                if let Some(held) = self.0.get_mut(name) {
                    *held = Held { has_others: held.has_others, ..Held::default() };
                }
            }
            Step::Create { name, wanted } | Step::Replace { name, wanted } => {
                let held = self.0.entry(name.clone()).or_default();
                held.marker = Some(Marker::Ours);
                (held.alias, held.addresses) = match wanted {
                    Wanted::Alias(to) => (Some(to.clone()), BTreeSet::new()),
                    Wanted::Addresses(ips) => (None, ips.clone()),
                };
            }
        }
    }

    /// Names of ours.
    pub fn owned(&self) -> usize {
        self.0.values().filter(|held| held.marker == Some(Marker::Ours)).count()
    }
}

/// What makes `present` into `desired`.
pub fn plan(desired: &BTreeMap<Name, Wanted>, present: &Present) -> Plan {
    let mut plan = Plan::default();
    let nothing = Held::default();
    for (name, wanted) in desired {
        let held = present.0.get(name).unwrap_or(&nothing);
        if let Some(why) = in_the_way(held, wanted) {
            plan.conflicts.push((name.clone(), why));
        } else if held.marker.is_none() {
            plan.steps.push(Step::Create { name: name.clone(), wanted: wanted.clone() });
        } else if !held.is(wanted) {
            plan.steps.push(Step::Replace { name: name.clone(), wanted: wanted.clone() });
        }
    }
    let ours = present.0.iter().filter(|(_, held)| held.marker == Some(Marker::Ours));
    let gone = ours.filter(|(name, _)| !desired.contains_key(*name));
    plan.steps.extend(gone.map(|(name, _)| Step::Remove { name: name.clone() }));
    plan
}

fn in_the_way(held: &Held, wanted: &Wanted) -> Option<&'static str> {
    let is_ours = held.marker == Some(Marker::Ours);
    match wanted {
        _ if held.marker == Some(Marker::Theirs) => Some("it is marked as another owner's"),
        _ if !is_ours && !held.addresses.is_empty() => {
            Some("it has an address that this gateway did not write")
        }
        _ if !is_ours && held.alias.is_some() => Some("it is an alias that this gateway did not write"),
        // RFC 1034 section 3.6.2; a server takes such an update and does nothing.
        Wanted::Alias(_) if held.has_others => Some("it has other records, beside which no alias can stand"),
        _ => None,
    }
}

impl Held {
    fn is(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Alias(to) => self.alias.as_ref() == Some(to) && self.addresses.is_empty(),
            Wanted::Addresses(ips) => self.alias.is_none() && self.addresses == *ips,
        }
    }
}

impl Writer {
    fn owner_text(&self) -> String {
        format!("heritage=sluice,owner={}", self.owner)
    }

    /// The update that is `step` (RFC 2136). `None`: a name so long that its marker would have none.
    pub fn message(&self, step: &Step, id: u16) -> Option<Message> {
        let (Step::Create { name, .. } | Step::Replace { name, .. } | Step::Remove { name }) = step;
        let marker = marker_of(name)?;
        let mut message = Message::new(id, hickory_proto::op::MessageType::Query, OpCode::Update);
        message.add_query(Query::query(self.zone.clone(), RecordType::SOA));
        let owned = Record::from_rdata(marker.clone(), 0, RData::TXT(TXT::new(vec![self.owner_text()])));
        match step {
            Step::Create { .. } => {
                // RFC 2136 section 2.4.3: nothing of these types is there.
                message.add_answers(TYPES.map(|kind| empty(name, kind, DNSClass::NONE)));
                message.add_answer(empty(&marker, RecordType::TXT, DNSClass::NONE));
            }
            // Section 2.4.2: the marker is there and ours.
            Step::Replace { .. } | Step::Remove { .. } => {
                message.add_answer(owned.clone());
            }
        }
        if !matches!(step, Step::Create { .. }) {
            // Section 2.5.2: a type as a whole.
            message.add_authorities(TYPES.map(|kind| empty(name, kind, DNSClass::ANY)));
        }
        let mut add = |data| {
            message.add_authority(Record::from_rdata(name.clone(), self.ttl, data));
        };
        match step {
            Step::Create { wanted, .. } | Step::Replace { wanted, .. } => match wanted {
                Wanted::Alias(to) => add(RData::CNAME(CNAME(to.clone()))),
                Wanted::Addresses(ips) => ips.iter().for_each(|ip| add(data_of(*ip))),
            },
            Step::Remove { .. } => {}
        }
        match step {
            Step::Create { .. } => {
                let mut written = owned;
                written.ttl = self.ttl;
                message.add_authority(written);
            }
            Step::Remove { .. } => {
                message.add_authority(empty(&marker, RecordType::TXT, DNSClass::ANY));
            }
            Step::Replace { .. } => {}
        }
        Some(message)
    }
}

/// A record without data, which says something of its type.
fn empty(name: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record: Record = Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}

fn marker_of(name: &Name) -> Option<Name> {
    let below = match name.is_wildcard() {
        true => name.base_name().prepend_label(WILDCARD).ok()?,
        false => name.clone(),
    };
    below.prepend_label(MARKER).ok()
}

/// The name that this is the marker of.
fn marked(name: &Name) -> Option<Name> {
    let is = |label: Option<&[u8]>, text: &str| {
        label.is_some_and(|label| label.eq_ignore_ascii_case(text.as_bytes()))
    };
    if !is(name.iter().next(), MARKER) {
        return None;
    }
    let of = name.base_name().to_lowercase();
    match is(of.iter().next(), WILDCARD) {
        true => of.base_name().prepend_label("*").ok(),
        false => Some(of),
    }
}

fn is_text(text: &TXT, wanted: &str) -> bool {
    text.txt_data.concat() == wanted.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::names::absolute;

    fn name(text: &str) -> Name {
        absolute(text).unwrap()
    }

    fn writer() -> Writer {
        Writer { zone: name("apps.test"), owner: "edge".to_owned(), ttl: 60 }
    }

    fn leads_to(ips: &[&str]) -> Wanted {
        Wanted::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn a(of: &str, ip: &str) -> Record {
        Record::from_rdata(name(of), 60, data_of(ip.parse().unwrap()))
    }

    fn txt(of: &str, text: &str) -> Record {
        Record::from_rdata(name(of), 60, RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    #[test]
    fn what_is_not_marked_as_ours_is_neither_changed_nor_removed() {
        let ours = "heritage=sluice,owner=edge";
        let present = Present::read(
            &[
                a("by-hand.apps.test", "192.0.2.7"),
                a("other.apps.test", "192.0.2.8"),
                txt("_sluice-owner.other.apps.test", "heritage=sluice,owner=fleet-2"),
                a("old.apps.test", "192.0.2.9"),
                txt("_sluice-owner.old.apps.test", ours),
                a("moved.apps.test", "192.0.2.9"),
                txt("_sluice-owner.Moved.apps.test", ours),
                a("same.apps.test", "192.0.2.1"),
                txt("_SLUICE-owner.same.apps.test", ours),
                txt("described.apps.test", "a note"),
                a("*.wild.apps.test", "192.0.2.9"),
                txt("_sluice-owner._wildcard.wild.apps.test", ours),
            ],
            &writer(),
        );
        let desired = [
            ("by-hand.apps.test", leads_to(&["192.0.2.1"])),
            ("other.apps.test", leads_to(&["192.0.2.1"])),
            ("moved.apps.test", leads_to(&["192.0.2.1"])),
            ("same.apps.test", leads_to(&["192.0.2.1"])),
            ("new.apps.test", Wanted::Alias(name("same.apps.test"))),
            ("described.apps.test", Wanted::Alias(name("same.apps.test"))),
        ];
        let desired: BTreeMap<_, _> =
            desired.into_iter().map(|(text, wanted)| (name(text), wanted)).collect();
        let plan = plan(&desired, &present);
        let conflicts: Vec<_> = plan.conflicts.iter().map(|(name, _)| name.to_ascii()).collect();
        assert_eq!(conflicts, ["by-hand.apps.test.", "described.apps.test.", "other.apps.test."]);
        assert_eq!(
            plan.steps,
            [
                Step::Replace { name: name("moved.apps.test"), wanted: leads_to(&["192.0.2.1"]) },
                Step::Create { name: name("new.apps.test"), wanted: Wanted::Alias(name("same.apps.test")) },
                Step::Remove { name: name("old.apps.test") },
                Step::Remove { name: name("*.wild.apps.test") },
            ]
        );
        let mut present = present;
        plan.steps.iter().for_each(|step| present.apply(step));
        let after = super::plan(&desired, &present);
        assert_eq!((after.steps, after.conflicts.len()), (Vec::new(), 3), "what is done is done");
        assert_eq!(present.owned(), 3);
    }

    #[test]
    fn every_update_names_what_must_hold_for_it() {
        let bytes = |step: Step| writer().message(&step, 1).unwrap().to_vec().unwrap();
        let read = |step| {
            let message = Message::from_vec(&bytes(step)).unwrap();
            let shown = |records: &[Record]| {
                records
                    .iter()
                    .map(|record| format!("{} {} {}", record.name, record.dns_class, record.record_type()))
                    .collect::<Vec<_>>()
            };
            (shown(&message.answers), shown(&message.authorities))
        };
        let shop = || name("shop.apps.test");
        let (needed, done) = read(Step::Create { name: shop(), wanted: leads_to(&["192.0.2.1"]) });
        let marker = "_sluice-owner.shop.apps.test.";
        assert_eq!(needed[0], "shop.apps.test. NONE A");
        assert_eq!(needed[3], format!("{marker} NONE TXT"));
        assert_eq!(done, ["shop.apps.test. IN A".to_owned(), format!("{marker} IN TXT")]);
        let (needed, done) = read(Step::Remove { name: shop() });
        assert_eq!(needed, [format!("{marker} IN TXT")]);
        assert_eq!(done.len(), 4);
        assert!(done.iter().all(|record| record.contains(" ANY ")), "{done:?}");
        let (needed, done) = read(Step::Replace { name: shop(), wanted: Wanted::Alias(name("x.test")) });
        assert_eq!((needed, done.len()), (vec![format!("{marker} IN TXT")], 4));
    }
}
