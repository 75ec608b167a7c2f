use super::*;
use crate::dns::access::Secondary;
use crate::dns::zone::tests::{addresses, name, zone};

const KEY: &str = "key \"xfer\" { algorithm hmac-sha256; secret \"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\"; };";
const NOW: u64 = 1_800_000_000;

fn apps() -> Zone {
    let many: Vec<_> = (1..=60).map(|number| format!("192.0.2.{number}")).collect();
    let glue = ["192.0.2.53".parse().unwrap()];
    zone(&[
        ("shop.apps.test", addresses(&["192.0.2.1", "2001:db8::1"])),
        ("only4.apps.test", addresses(&["192.0.2.1"])),
        ("www.shop.apps.test", Target::Alias(name("shop.apps.test"))),
        ("away.apps.test", Target::Alias(name("cdn.example.com"))),
        ("lost.apps.test", Target::Alias(name("nobody.apps.test"))),
        ("*.wild.apps.test", addresses(&["192.0.2.2"])),
        ("many.apps.test", addresses(&many.iter().map(String::as_str).collect::<Vec<_>>())),
        ("ns1.apps.test", Target::Fixed(glue.into())),
    ])
}

fn access() -> Access {
    let key = TsigKey::parse(KEY).unwrap();
    Access {
        secondaries: vec![
            Secondary { ip: Some("198.51.100.1".parse().unwrap()), key: None, notify: None },
            Secondary { ip: None, key: Some(key), notify: None },
        ],
    }
}

fn query(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

fn ask_raw(bytes: &[u8], peer: &str, transport: Transport) -> Reply {
    let asked = Asked { message: bytes, peer: peer.parse().unwrap(), transport, now: NOW };
    answer(&apps(), &access(), &asked)
}

fn ask_message(message: &Message, transport: Transport) -> Message {
    match ask_raw(&message.to_vec().unwrap(), "203.0.113.1", transport) {
        Reply::Message(answer) => Message::from_vec(&answer.bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn ask(text: &str, kind: RecordType) -> (ResponseCode, Vec<String>, usize) {
    let answer = ask_message(&query(text, kind), Transport::Udp);
    let metadata = &answer.metadata;
    assert!(metadata.id == 7 && metadata.recursion_desired && !metadata.recursion_available);
    let shown = answer.answers.iter().map(|record| format!("{} {}", record.name, record.data));
    (metadata.response_code, shown.collect(), answer.authorities.len())
}

#[test]
fn names_lead_to_addresses_of_the_family_that_is_asked_for() {
    use RecordType::{A, AAAA, CNAME, MX, NS, SOA};
    let ok = ResponseCode::NoError;
    let told = |records: &[&str]| records.iter().map(|record| (*record).to_owned()).collect::<Vec<_>>();
    assert_eq!(ask("shop.apps.test", A), (ok, told(&["shop.apps.test. 192.0.2.1"]), 0));
    assert_eq!(ask("SHOP.apps.test", AAAA), (ok, told(&["SHOP.apps.test. 2001:db8::1"]), 0));
    assert_eq!(ask("x.wild.apps.test", A), (ok, told(&["x.wild.apps.test. 192.0.2.2"]), 0));
    let www = ["www.shop.apps.test. shop.apps.test.", "shop.apps.test. 192.0.2.1"];
    assert_eq!(ask("www.shop.apps.test", A), (ok, told(&www), 0));
    assert_eq!(ask("www.shop.apps.test", CNAME), (ok, told(&www[..1]), 0));
    assert_eq!(ask("away.apps.test", A), (ok, told(&["away.apps.test. cdn.example.com."]), 0));
    assert_eq!(ask("apps.test", SOA).1.len(), 1);
    assert_eq!(ask("apps.test", NS).1.len(), 2);
    // RFC 2308: no such record, or no such name, and for how long that may be believed.
    assert_eq!(ask("only4.apps.test", AAAA), (ok, vec![], 1));
    assert_eq!(ask("shop.apps.test", MX), (ok, vec![], 1));
    assert_eq!(ask("wild.apps.test", A), (ok, vec![], 1));
    assert_eq!(ask("apps.test", A), (ok, vec![], 1));
    assert_eq!(ask("nobody.apps.test", A), (ResponseCode::NXDomain, vec![], 1));
    let lost = ask("lost.apps.test", A);
    assert_eq!((lost.0, lost.1.len(), lost.2), (ResponseCode::NXDomain, 1, 1));
}

#[test]
fn negative_answers_say_how_long_they_hold() {
    let answer = ask_message(&query("nobody.apps.test", RecordType::A), Transport::Udp);
    let record = &answer.authorities[0];
    let RData::SOA(soa) = &record.data else { panic!("{record}") };
    assert_eq!((record.ttl, soa.minimum, soa.serial), (10, 10, 7));
    assert!(answer.metadata.authoritative);
}

#[test]
fn nothing_is_answered_that_is_not_about_the_zone() {
    let refused = (ResponseCode::Refused, vec![], 0);
    assert_eq!(ask("example.com", RecordType::A), refused);
    assert_eq!(ask("test", RecordType::NS), refused);
    assert_eq!(ask("evilapps.test", RecordType::A), refused);
    let mut chaos = query("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask_message(&chaos, Transport::Udp).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn who_asks_for_everything_gets_one_small_record() {
    let (code, records, _) = ask("many.apps.test", RecordType::ANY);
    assert_eq!((code, records.len()), (ResponseCode::NoError, 1));
    assert!(records[0].contains("RFC8482"), "{records:?}");
    assert_eq!(ask("nobody.apps.test", RecordType::ANY).0, ResponseCode::NXDomain);
    assert_eq!(ask("apps.test", RecordType::ANY).1.len(), 1);
}

#[test]
fn what_does_not_fit_a_datagram_goes_by_connection() {
    let mut asked = query("many.apps.test", RecordType::A);
    let plain = ask_message(&asked, Transport::Udp);
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    assert_eq!(ask_message(&asked, Transport::Tcp).answers.len(), 60);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    asked.set_edns(edns);
    let large = ask_message(&asked, Transport::Udp);
    assert!(!large.metadata.truncation);
    assert_eq!((large.answers.len(), large.max_payload()), (60, MAX_DATAGRAM));
    assert!(large.edns.as_ref().unwrap().flags().dnssec_ok);
    // A liar's buffer is not ours.
    asked.edns.as_mut().unwrap().set_max_payload(0);
    assert!(ask_message(&asked, Transport::Udp).metadata.truncation);
    asked.edns.as_mut().unwrap().set_version(1);
    // Of 16 there are two: BADVERS, and BADSIG, which stands in signatures only.
    let code = ask_message(&asked, Transport::Udp).metadata.response_code;
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn what_is_no_query_is_refused_with_a_header_or_not_answered() {
    let good = query("shop.apps.test", RecordType::A).to_vec().unwrap();
    let code = |bytes: &[u8]| match ask_raw(bytes, "203.0.113.1", Transport::Udp) {
        Reply::Message(answer) => {
            assert!(answer.bytes.len() <= bytes.len().max(HEADER_BYTES), "no amplification");
            Ok(answer.code)
        }
        Reply::Silence(why) => Err(why),
        Reply::Transfer(_) => panic!("a datagram is offered no transfer"),
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(code(&good[..11]), Err(Ignored::Short));
    assert_eq!(code(&with(2, 0x81)), Err(Ignored::Response));
    assert_eq!(code(&with(2, 0x20)), Ok(ResponseCode::NotImp), "NOTIFY");
    assert_eq!(code(&with(2, 0x28)), Ok(ResponseCode::NotImp), "UPDATE");
    for (at, byte) in [(4, 0xff), (5, 0), (5, 2), (6, 1), (8, 0x10), (10, 0xff)] {
        assert_eq!(code(&with(at, byte)), Ok(ResponseCode::FormErr), "{at}");
    }
    assert_eq!(code(&good[..20]), Ok(ResponseCode::FormErr));
    assert_eq!(code(&[&good[..], b"x"].concat()), Ok(ResponseCode::FormErr));
    // Names that lead to themselves, forward, and in a circle.
    for pointer in [[0xc0, 12], [0xc0, 14], [0xc0, 0xff], [0xff, 0xff]] {
        let looped = [&good[..12], &pointer, &[0, 1, 0, 1]].concat();
        assert_eq!(code(&looped), Ok(ResponseCode::FormErr), "{pointer:?}");
    }
}

#[test]
fn the_zone_goes_to_secondaries_over_connections_only() {
    let asked = |kind, known: Option<u32>| {
        let mut message = query("apps.test", kind);
        if let Some(serial) = known {
            message.add_authority(Zone { serial, ..apps() }.soa(0));
        }
        message.to_vec().unwrap()
    };
    let told = |bytes: &[u8], peer, transport| match ask_raw(bytes, peer, transport) {
        Reply::Message(answer) => {
            format!("{} {}", answer.code, Message::from_vec(&answer.bytes).unwrap().answers.len())
        }
        Reply::Transfer(_) => "zone".to_owned(),
        Reply::Silence(_) => "silence".to_owned(),
    };
    let (known, stranger) = ("198.51.100.1", "198.51.100.2");
    let refused = format!("{} 0", ResponseCode::Refused);
    let serial_only = format!("{} 1", ResponseCode::NoError);
    let full = asked(RecordType::AXFR, None);
    assert_eq!(told(&full, known, Transport::Tcp), "zone");
    assert_eq!(told(&full, "::ffff:198.51.100.1", Transport::Tcp), "zone");
    assert_eq!(told(&full, stranger, Transport::Tcp), refused);
    assert_eq!(told(&full, known, Transport::Udp), refused);
    let (old, same) = (asked(RecordType::IXFR, Some(6)), asked(RecordType::IXFR, Some(7)));
    assert_eq!(told(&old, known, Transport::Tcp), "zone");
    assert_eq!(told(&same, known, Transport::Tcp), serial_only);
    assert_eq!(told(&old, known, Transport::Udp), serial_only);
    assert_eq!(told(&old, stranger, Transport::Udp), refused);
    let other = query("shop.apps.test", RecordType::AXFR).to_vec().unwrap();
    assert_eq!(told(&other, known, Transport::Tcp), format!("{} 0", ResponseCode::NotAuth));
}

#[test]
fn a_signature_opens_the_zone_and_a_wrong_one_nothing() {
    let key = TsigKey::parse(KEY).unwrap();
    let forged = TsigKey::parse(&KEY.replace("c2VjcmV0", "Zm9yZ2Vk")).unwrap();
    let unknown = TsigKey::parse(&KEY.replace("xfer", "who")).unwrap();
    let ask = |key: &TsigKey, at: u64, kind| {
        let mut bytes = query("apps.test", kind).to_vec().unwrap();
        let mut chain = Chain::default();
        key.sign(&mut bytes, &mut chain, at);
        (ask_raw(&bytes, "203.0.113.1", Transport::Tcp), chain.asked())
    };
    assert!(matches!(ask(&key, NOW, RecordType::AXFR).0, Reply::Transfer(_)));
    let (Reply::Message(answer), mut chain) = ask(&key, NOW, RecordType::SOA) else { panic!("a message") };
    let signed = Signed::read(&answer.bytes).unwrap().unwrap();
    assert_eq!(key.verify(&signed, &mut chain, NOW), Ok(()));
    for (key, at, error) in [(&forged, NOW, 16), (&unknown, NOW, 17), (&key, NOW - 301, 18)] {
        let (Reply::Message(answer), mut chain) = ask(key, at, RecordType::AXFR) else { panic!("a message") };
        assert_eq!(answer.code, ResponseCode::NotAuth);
        let signed = Signed::read(&answer.bytes).unwrap().unwrap();
        assert_eq!(signed.error(), error);
        if error == 18 {
            assert_eq!(key.verify(&signed, &mut chain, NOW), Ok(()), "that is signed");
        }
    }
}

#[test]
fn a_slipped_answer_is_empty_and_says_that_there_is_more() {
    let bytes = query("shop.apps.test", RecordType::A).to_vec().unwrap();
    let Reply::Message(answer) = ask_raw(&bytes, "203.0.113.1", Transport::Udp) else { panic!("a message") };
    let slipped = answer.slipped().unwrap();
    assert!(slipped.len() <= bytes.len());
    let message = Message::from_vec(&slipped).unwrap();
    assert!(message.metadata.truncation && message.answers.is_empty() && message.metadata.id == 7);
}

#[test]
fn equal_answers_are_alike_and_random_names_below_the_zone_too() {
    let likeness = |text: &str| {
        let bytes = query(text, RecordType::A).to_vec().unwrap();
        match ask_raw(&bytes, "203.0.113.1", Transport::Udp) {
            Reply::Message(answer) => answer.likeness,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(likeness("a1.apps.test"), likeness("a2.b.apps.test"));
    assert_eq!(likeness("x.wild.apps.test"), likeness("y.wild.apps.test"));
    assert_eq!(likeness("a.example.com"), likeness("b.example.org"));
    assert_ne!(likeness("shop.apps.test"), likeness("only4.apps.test"));
}
