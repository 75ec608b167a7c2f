//! The whole zone, message by message (RFC 5936).

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, Record};
use std::ops::Bound;

use super::tsig::{Chain, TsigKey};
use super::zone::Zone;

/// Of one message, before names are compressed: what pointers of compression can reach (RFC 1035 section 4.1.4).
const MESSAGE_BYTES: usize = 16 << 10;
/// Type, class, TTL and length of a record, and the larger of its address and a little.
const RECORD_BYTES: usize = 10 + 16;

/// One transfer under way. What it sends is the zone as it was when it began.
#[derive(Debug)]
pub struct Transfer {
    zone: Zone,
    id: u16,
    question: Option<Query>,
    signing: Option<(TsigKey, Chain)>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Begin,
    After(Option<Name>),
    End,
}

impl Transfer {
    pub fn new(zone: Zone, id: u16, question: Query, signing: Option<(TsigKey, Chain)>) -> Self {
        Self { zone, id, question: Some(question), signing, place: Place::Begin }
    }

    /// The next message; `None` after the last one, and where one cannot be written, so that its receiver sees the
    /// connection end before the zone does.
    pub fn next_message(&mut self, now: u64) -> Option<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.authoritative = true;
        message.queries.extend(self.question.take());
        let mut room = MESSAGE_BYTES;
        let mut after = match std::mem::replace(&mut self.place, Place::End) {
            Place::End => return None,
            Place::After(after) => after,
            Place::Begin => {
                message.add_answer(self.zone.soa(self.zone.apex.ttl));
                message.add_answers(self.zone.ns());
                None
            }
        };
        loop {
            let from = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let Some((name, target)) = self.zone.names.range((from, Bound::Unbounded)).next() else {
                message.add_answer(self.zone.soa(self.zone.apex.ttl));
                break;
            };
            let records = self.zone.records(name, target);
            let size: usize = records.iter().map(size).sum();
            if size > room && !message.answers.is_empty() {
                self.place = Place::After(after);
                break;
            }
            room = room.saturating_sub(size);
            after = Some(name.clone());
            message.add_answers(records);
        }
        let mut bytes = message.to_vec().ok()?;
        if let Some((key, chain)) = &mut self.signing {
            key.sign(&mut bytes, chain, now);
        }
        Some(bytes)
    }

    pub fn serial(&self) -> u32 {
        self.zone.serial
    }
}

/// At the most.
fn size(record: &Record) -> usize {
    use hickory_proto::rr::RData;
    let name = |name: &Name| name.len() + 1;
    let data = match &record.data {
        RData::CNAME(to) => name(to),
        _ => 0,
    };
    name(&record.name) + RECORD_BYTES + data
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{RData, RecordType};

    use super::super::zone::tests::{addresses, name, zone};
    use super::*;

    #[test]
    fn a_large_zone_goes_in_many_messages_between_two_soa_records_and_each_name_once() {
        let names: Vec<_> = (0..5_000).map(|number| format!("app-{number}.apps.test")).collect();
        let target = addresses(&["192.0.2.1", "2001:db8::1"]);
        let zone = zone(&names.iter().map(|text| (text.as_str(), target.clone())).collect::<Vec<_>>());
        let question = Query::query(name("apps.test"), RecordType::AXFR);
        let mut transfer = Transfer::new(zone, 9, question, None);
        let messages: Vec<_> = std::iter::from_fn(|| transfer.next_message(0)).collect();
        assert!(messages.len() > 10 && messages.iter().all(|message| message.len() <= MESSAGE_BYTES));
        let records: Vec<_> =
            messages.iter().flat_map(|bytes| Message::from_vec(bytes).unwrap().answers).collect();
        assert_eq!(records.len(), 1 + 2 + 10_000 + 1);
        let is_soa = |record: &Record| matches!(record.data, RData::SOA(_));
        assert!(is_soa(&records[0]) && is_soa(&records[10_003]));
        assert_eq!(records.iter().filter(|record| is_soa(record)).count(), 2);
    }
}
