//! From the bytes of a query to those of its answer: all that is decided about one, and no socket.
//!
//! Nothing is looked up elsewhere, nothing is answered that is not about our zone, and no answer to a datagram is larger
//! than [`MAX_DATAGRAM`]. Whatever the bytes are, this returns.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::access::Access;
use super::transfer::Transfer;
use super::tsig::{self, Chain, Fault, Signed, TsigKey};
use super::wire::{HEADER_BYTES, Head};
use super::zone::{Found, Target, Zone};

/// What passes everywhere without fragments (the DNS flag day of 2020).
pub const MAX_DATAGRAM: u16 = 1232;
/// RFC 1035 section 4.2.1: without EDNS.
const PLAIN_DATAGRAM: u16 = 512;
/// One question, the SOA of an IXFR (RFC 1995 section 3), OPT and TSIG.
const MOST: [u16; 4] = [1, 0, 1, 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// One message, and what is known of its sender.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'m> {
    pub message: &'m [u8],
    pub peer: IpAddr,
    pub transport: Transport,
    /// Seconds since 1970.
    pub now: u64,
}

#[derive(Debug)]
pub enum Reply {
    /// Nobody is answered.
    Silence(Ignored),
    Message(Answer),
    /// The zone, in as many messages as it takes.
    Transfer(Box<Transfer>),
}

/// Why nothing is answered. Words of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Less than a header.
    Short,
    /// An answer: two servers that answered these would never end.
    Response,
}

#[derive(Debug)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub code: ResponseCode,
    pub kind: QueryKind,
    pub is_truncated: bool,
    /// Equal for answers that are alike.
    pub likeness: Likeness,
}

/// What a flood of one query would get again and again: for rate limiting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Likeness(u16, u16, Name);

/// Words of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    A,
    Aaaa,
    Cname,
    Ns,
    Soa,
    Any,
    Axfr,
    Ixfr,
    /// Of other types, or unreadable.
    Other,
}

impl QueryKind {
    pub const ALL: [Self; 9] = [
        Self::A,
        Self::Aaaa,
        Self::Cname,
        Self::Ns,
        Self::Soa,
        Self::Any,
        Self::Axfr,
        Self::Ixfr,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Any => "ANY",
            Self::Axfr => "AXFR",
            Self::Ixfr => "IXFR",
            Self::Other => "other",
        }
    }

    fn of(kind: RecordType) -> Self {
        match kind {
            RecordType::A => Self::A,
            RecordType::AAAA => Self::Aaaa,
            RecordType::CNAME => Self::Cname,
            RecordType::NS => Self::Ns,
            RecordType::SOA => Self::Soa,
            RecordType::ANY => Self::Any,
            RecordType::AXFR => Self::Axfr,
            RecordType::IXFR => Self::Ixfr,
            _ => Self::Other,
        }
    }
}

/// Answers one message.
pub fn answer(zone: &Zone, access: &Access, asked: &Asked<'_>) -> Reply {
    let Some(head) = Head::read(asked.message) else { return Reply::Silence(Ignored::Short) };
    if head.is_response {
        return Reply::Silence(Ignored::Response);
    }
    if head.op_code != 0 {
        return bare(&head, asked.message, ResponseCode::NotImp);
    }
    let is_plausible =
        head.counts[0] == 1 && head.counts.iter().zip(MOST).all(|(count, most)| *count <= most);
    let signed = is_plausible.then(|| Signed::read(asked.message));
    let Some(Ok(signed)) = signed else { return bare(&head, asked.message, ResponseCode::FormErr) };
    let plain = signed.as_ref().map_or(asked.message, Signed::message);
    let Ok(mut request) = Message::from_vec(plain) else {
        return bare(&head, asked.message, ResponseCode::FormErr);
    };
    request.metadata.id = head.id;
    let Some(question) = request.queries.first().cloned() else {
        return bare(&head, asked.message, ResponseCode::FormErr);
    };
    let mut signing = None;
    if let Some(signed) = signed {
        match verify(access, &signed, asked.now) {
            Ok(verified) => signing = Some(verified),
            Err(refusal) => return refuse(&request, &question, &signed, refusal, asked.now),
        }
    }
    Asking { zone, access, asked, request: &request, question }.answer(signing)
}

/// Whose signature it is, and the chain that the answer's continues.
type Signing = (TsigKey, Chain);

fn verify(access: &Access, signed: &Signed, now: u64) -> Result<Signing, (Fault, Option<Signing>)> {
    let Some(key) = access.key_of(signed) else { return Err((Fault::BadKey, None)) };
    let mut chain = Chain::default();
    match key.verify(signed, &mut chain, now) {
        Ok(()) => Ok((key.clone(), chain)),
        Err(fault) => Err((fault, Some((key.clone(), chain)))),
    }
}

fn refuse(
    request: &Message,
    question: &Query,
    signed: &Signed,
    (fault, signing): (Fault, Option<Signing>),
    now: u64,
) -> Reply {
    let response = response_to(request, ResponseCode::NotAuth);
    let Ok(mut bytes) = response.to_vec() else { return Reply::Silence(Ignored::Short) };
    let (key, mut chain) = signing.unzip();
    tsig::refuse(&mut bytes, signed, fault, key.as_ref(), chain.get_or_insert_default(), now);
    Reply::Message(Answer {
        bytes,
        code: ResponseCode::NotAuth,
        kind: QueryKind::of(question.query_type()),
        is_truncated: false,
        likeness: Likeness(ResponseCode::NotAuth.into(), 0, Name::root()),
    })
}

/// A header alone, to what is no query or cannot be read.
fn bare(head: &Head, message: &[u8], code: ResponseCode) -> Reply {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&head.id.to_be_bytes());
    // What was asked for, and whether recursion was desired; nothing else is repeated.
    bytes[2] = 0x80 | (message.get(2).copied().unwrap_or_default() & 0x79);
    bytes[3] = code.low();
    Reply::Message(Answer {
        bytes,
        code,
        kind: QueryKind::Other,
        is_truncated: false,
        likeness: Likeness(code.into(), 0, Name::root()),
    })
}

fn response_to(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.response_code = code;
    response.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM).set_version(0);
        // RFC 3225 section 3. Nothing here is signed.
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// A query that can be read, of somebody whose signature is right if there is one.
struct Asking<'a> {
    zone: &'a Zone,
    access: &'a Access,
    asked: &'a Asked<'a>,
    request: &'a Message,
    question: Query,
}

impl Asking<'_> {
    fn answer(&self, signing: Option<Signing>) -> Reply {
        let Self { zone, question, .. } = self;
        let kind = question.query_type();
        let refuse = |code, signing| self.finish(&response_to(self.request, code), None, signing);
        if self.request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            // RFC 6891 section 6.1.3.
            return refuse(ResponseCode::BADVERS, signing);
        }
        if question.query_class() != DNSClass::IN || !zone.apex.origin.zone_of(question.name()) {
            return refuse(ResponseCode::Refused, signing);
        }
        match kind {
            RecordType::AXFR | RecordType::IXFR => self.transfer(signing),
            // RFC 6895 section 3.1: questions about mail, and what is no type to ask for.
            RecordType::OPT | RecordType::TSIG | RecordType::ZERO => refuse(ResponseCode::FormErr, signing),
            _ => {
                let mut response = response_to(self.request, ResponseCode::NoError);
                response.metadata.authoritative = true;
                let by = self.fill(&mut response);
                self.finish(&response, Some(by), signing)
            }
        }
    }

    /// Returns the name that the answer is found by: the same for all that are alike.
    fn fill(&self, response: &mut Message) -> Name {
        let Self { zone, question, .. } = self;
        let (name, kind) = (question.name(), question.query_type());
        match zone.find(name) {
            Found::Target { target, by } => {
                self.add(response, target, kind);
                by.clone()
            }
            Found::Origin(target) => {
                match kind {
                    RecordType::SOA => {
                        response.add_answer(zone.soa(zone.apex.ttl));
                    }
                    RecordType::NS => {
                        response.add_answers(zone.ns());
                        self.add_glue(response);
                    }
                    RecordType::ANY => {
                        response.add_answer(any(name, zone.apex.ttl));
                    }
                    _ => match target {
                        Some(target) => self.add(response, target, kind),
                        None => self.add_soa(response),
                    },
                }
                zone.apex.origin.clone()
            }
            Found::Nothing => {
                self.add_soa(response);
                name.clone()
            }
            Found::NoName => {
                response.metadata.response_code = ResponseCode::NXDomain;
                self.add_soa(response);
                // Random names below the zone are one flood.
                zone.apex.origin.clone()
            }
        }
    }

    fn add(&self, response: &mut Message, target: &Target, kind: RecordType) {
        let Self { zone, question, .. } = self;
        if kind == RecordType::ANY {
            response.add_answer(any(question.name(), zone.apex.ttl));
            return;
        }
        let records = zone.records(question.name(), target);
        let is_alias = matches!(target, Target::Alias(_));
        let mut fitting: Vec<_> = match is_alias {
            true => records,
            false => records.into_iter().filter(|record| record.record_type() == kind).collect(),
        };
        if fitting.is_empty() {
            return self.add_soa(response);
        }
        self.turn(&mut fitting);
        response.add_answers(fitting);
        if let (Target::Alias(to), true) = (target, kind != RecordType::CNAME) {
            self.follow(response, to, kind);
        }
    }

    /// Where an alias leads, if that is ours: RFC 1034 section 3.6.2. Aliases lead to homes, and homes are none.
    fn follow(&self, response: &mut Message, to: &Name, kind: RecordType) {
        if !self.zone.apex.origin.zone_of(to) {
            return;
        }
        match self.zone.find(to) {
            Found::Target { target, .. } | Found::Origin(Some(target)) => {
                let mut records = self.zone.records(to, target);
                records.retain(|record| record.record_type() == kind);
                self.turn(&mut records);
                match records.is_empty() {
                    true => self.add_soa(response),
                    false => {
                        response.add_answers(records);
                    }
                }
            }
            Found::Origin(None) | Found::Nothing => self.add_soa(response),
            Found::NoName => {
                // RFC 2308 section 2.1: the code is of where it ends.
                response.metadata.response_code = ResponseCode::NXDomain;
                self.add_soa(response);
            }
        }
    }

    /// Many clients take the first address.
    fn turn(&self, records: &mut [Record]) {
        if records.len() > 1 {
            records.rotate_left(usize::from(self.request.metadata.id) % records.len());
        }
    }

    /// RFC 2308 section 3: what does not exist may be believed for so long.
    fn add_soa(&self, response: &mut Message) {
        response.add_authority(self.zone.soa(self.zone.apex.negative_ttl));
    }

    fn add_glue(&self, response: &mut Message) {
        for name in &self.zone.apex.nameservers {
            if let Some(target @ Target::Fixed(_)) = self.zone.names.get(name) {
                response.add_additionals(self.zone.records(name, target));
            }
        }
    }

    fn transfer(&self, signing: Option<Signing>) -> Reply {
        let Self { zone, access, asked, request, question } = self;
        let answer = |code, signing| self.finish(&response_to(request, code), None, signing);
        let is_incremental = question.query_type() == RecordType::IXFR;
        if *question.name() != zone.apex.origin {
            return answer(ResponseCode::NotAuth, signing);
        }
        let key = signing.as_ref().map(|(key, _)| key.name());
        let is_possible = asked.transport == Transport::Tcp || is_incremental;
        if !access.permits(asked.peer, key) || !is_possible {
            return answer(ResponseCode::Refused, signing);
        }
        // RFC 1995 section 2: who has it gets its serial, who asks by datagram is told to come by connection.
        let known = request.authorities.first().and_then(|record| match &record.data {
            RData::SOA(soa) => Some(soa.serial),
            _ => None,
        });
        let is_known = known.is_some_and(|known| (zone.serial.wrapping_sub(known) as i32) <= 0);
        if is_incremental && (is_known || asked.transport == Transport::Udp) {
            let mut response = response_to(request, ResponseCode::NoError);
            response.metadata.authoritative = true;
            response.add_answer(zone.soa(zone.apex.ttl));
            return self.finish(&response, Some(zone.apex.origin.clone()), signing);
        }
        Reply::Transfer(Box::new(Transfer::new(
            (*zone).clone(),
            request.metadata.id,
            question.clone(),
            signing,
        )))
    }

    fn finish(&self, response: &Message, by: Option<Name>, signing: Option<Signing>) -> Reply {
        let code = response.metadata.response_code;
        let kind = self.question.query_type();
        let limit = match (self.asked.transport, &self.request.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_DATAGRAM, MAX_DATAGRAM),
            (Transport::Udp, None) => PLAIN_DATAGRAM,
        };
        let room = signing.as_ref().map_or(0, |(key, _)| key.signature_bytes());
        let Some((mut bytes, is_truncated)) = encode(response, usize::from(limit).saturating_sub(room))
        else {
            return bare_failure(self.request.metadata.id);
        };
        if let Some((key, mut chain)) = signing {
            key.sign(&mut bytes, &mut chain, self.asked.now);
        }
        let number = if by.is_some() { kind.into() } else { 0 };
        let likeness = Likeness(code.into(), number, by.unwrap_or_else(Name::root));
        Reply::Message(Answer { bytes, code, kind: QueryKind::of(kind), is_truncated, likeness })
    }
}

/// RFC 8482 section 4.2: who asks for everything, to make an answer large, gets one small record.
fn any(name: &Name, ttl: u32) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())))
}

/// What does not fit goes without any record, so that nobody takes a part for the whole.
fn encode(response: &Message, limit: usize) -> Option<(Vec<u8>, bool)> {
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some((bytes, false));
    }
    Some((response.truncate().to_vec().ok()?, true))
}

fn bare_failure(id: u16) -> Reply {
    let head = Head { id, is_response: false, op_code: 0, counts: [0; 4] };
    bare(&head, &[], ResponseCode::ServFail)
}

impl Answer {
    /// The same answer with nothing in it but that there is more over TCP; `None` where that is no shorter.
    pub fn slipped(&self) -> Option<Vec<u8>> {
        let message = Message::from_vec(&self.bytes).ok()?;
        message.truncate().to_vec().ok()
    }
}

#[cfg(test)]
mod tests;
