//! Queries of DNS.

use std::net::IpAddr;
use std::sync::LazyLock;

use gateway::dns::access::{Access, Secondary};
use gateway::dns::answer::{Asked, MAX_DATAGRAM, Reply, Transport, answer};
use gateway::dns::names::absolute;
use gateway::dns::tsig::{Chain, Signed, TsigKey};
use gateway::dns::zone::{Apex, Target, Zone};
use hickory_proto::op::Message;

const KEY: &str = "key \"fuzz\" { algorithm hmac-sha256; secret \"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\"; };";
/// When the signed seeds were signed.
const NOW: u64 = 1_800_000_000;
/// RFC 1035 section 4.2.1.
const PLAIN: usize = 512;

static SERVED: LazyLock<(Zone, Access)> = LazyLock::new(|| {
    let name = |text| absolute(text).expect("a name");
    let mut zone = Zone::empty(Apex {
        origin: name("apps.test"),
        nameservers: vec![name("ns1.apps.test")],
        hostmaster: name("hostmaster.apps.test"),
        ttl: 30,
        negative_ttl: 10,
    });
    let many: Vec<IpAddr> = (0..16_u16).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])).collect();
    let few = Target::Addresses([IpAddr::from([192, 0, 2, 1])].into());
    zone.names.insert(name("a.apps.test"), few.clone());
    zone.names.insert(name("*.w.apps.test"), few);
    zone.names.insert(name("m.apps.test"), Target::Addresses(many.into()));
    zone.names.insert(name("c.apps.test"), Target::Alias(name("a.apps.test")));
    zone.names.insert(name("x.apps.test"), Target::Alias(name("elsewhere.test")));
    let key = TsigKey::parse(KEY).expect("a key");
    let secondary = Secondary { ip: None, key: Some(key), notify: None };
    (zone, Access { secondaries: vec![secondary] })
});

/// What comes by datagram and by connection, of somebody who is known only by his key. What is answered is a message with
/// the query's id that fits where it goes; no answer is answered; whoever has not signed does not get the zone.
///
/// # Panics
/// Where that is broken.
pub fn dns_query(message: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (zone, access) = &*SERVED;
        let asked = Asked { message, peer: IpAddr::from([198, 51, 100, 1]), transport, now: NOW };
        let is_response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
        match answer(zone, access, &asked) {
            Reply::Silence(_) => assert!(message.len() < 12 || is_response),
            Reply::Transfer(mut transfer) => {
                assert!(is_signed(message) && !is_response, "{}", super::shown(message));
                let first = transfer.next_message(NOW).expect("a zone has a beginning");
                let read = Message::from_vec(unsigned(&first).as_deref().unwrap_or(&first));
                assert!(read.is_ok_and(|read| !read.answers.is_empty()));
            }
            Reply::Message(answer) => {
                assert!(!is_response && message.len() >= 12);
                let bytes = &answer.bytes;
                assert_eq!(bytes[..2], message[..2], "the id");
                assert!(bytes[2] & 0x80 != 0, "an answer");
                let read = Message::from_vec(unsigned(bytes).as_deref().unwrap_or(bytes));
                let read = read.unwrap_or_else(|error| panic!("{error}: {}", super::shown(bytes)));
                assert!(!read.metadata.recursion_available);
                if transport == Transport::Udp {
                    let limit = if read.edns.is_some() { usize::from(MAX_DATAGRAM) } else { PLAIN };
                    assert!(bytes.len() <= limit, "{} bytes", bytes.len());
                }
                if let Some(slipped) = answer.slipped() {
                    assert!(slipped.len() <= bytes.len() && slipped[..2] == message[..2]);
                }
            }
        }
    }
}

fn is_signed(message: &[u8]) -> bool {
    let key = TsigKey::parse(KEY).expect("a key");
    let signed = Signed::read(message).ok().flatten();
    signed.is_some_and(|signed| key.verify(&signed, &mut Chain::default(), NOW).is_ok())
}

fn unsigned(message: &[u8]) -> Option<Vec<u8>> {
    Some(Signed::read(message).ok().flatten()?.message().to_vec())
}
