use proptest::prelude::*;

use super::*;

fn id(name: &str) -> GatewayId {
    GatewayId::parse(name).unwrap()
}

fn boot(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

fn message(body: Body) -> Message {
    Message {
        from: id("gw-1"),
        from_boot: boot(1),
        to: id("gw-2"),
        to_boot: boot(2),
        seq: 7,
        serves: true,
        body,
    }
}

fn bodies() -> Vec<Body> {
    let (v4, v6) = ("10.0.0.200".parse().unwrap(), "2001:db8::200".parse().unwrap());
    vec![
        Body::Hello,
        Body::Heartbeat { ip: v4, epoch: 3, beat: 9 },
        Body::Grant { ip: v6, epoch: u64::MAX, beat: u64::MAX },
        Body::Refuse { ip: v4, epoch: 1, beat: 0 },
        Body::Ended,
    ]
}

fn key() -> PeerKey {
    PeerKey::new(&[9; 32])
}

#[test]
fn messages_are_read_as_they_are_written() {
    for body in bodies() {
        let mut message = message(body);
        message.from = id(&"x".repeat(128));
        let bytes = message.encode(&key());
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        assert_eq!(Message::decode(&bytes, &key()), Ok(message));
    }
}

#[test]
fn no_bit_can_be_changed() {
    for body in bodies() {
        let bytes = message(body).encode(&key());
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(Message::decode(&forged, &key()).is_err(), "bit {bit} of {body:?}");
        }
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length], &key()).is_err());
        }
        assert_eq!(Message::decode(&bytes, &PeerKey::new(&[8; 32])), Err(MessageError::Tag));
    }
}

#[test]
fn layout_is_stable() {
    let ip = "10.0.0.200".parse().unwrap();
    let bytes = message(Body::Heartbeat { ip, epoch: 3, beat: 9 }).encode(&key());
    assert_eq!(bytes.len(), HEAD_BYTES + 8 + TAG_BYTES);
    assert_eq!(bytes[..4], *b"SV\x01\x02");
    assert_eq!(bytes[36..60], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(bytes[60..65], [4, 10, 0, 0, 200]);
    assert_eq!(bytes[77..88], *b"\x01\x04\x04gw-1gw-2");
}

proptest! {
    #[test]
    fn any_signed_bytes_give_a_message_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..340)) {
        let _ = Message::parse(&bytes);
        let _ = Message::decode(&bytes, &key());
    }

    #[test]
    fn what_is_read_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 88), from in 0u8..9, kind in 1u8..7) {
        let mut bytes = bytes;
        bytes[..4].copy_from_slice(&[b'S', b'V', 1, kind]);
        bytes[60..78].fill(0);
        bytes[60] = if matches!(kind, 1 | 5) { 0 } else { 4 };
        bytes[78] = from;
        bytes[79] = 8 - from.min(8);
        bytes[80..88].copy_from_slice(b"gw-1gw-2");
        if let Some(message) = Message::parse(&bytes) {
            let again = message.encode(&key());
            prop_assert_eq!(&again[..bytes.len()], &bytes[..]);
        }
    }
}

#[test]
fn last_words_are_read_as_they_are_written_and_bounded() {
    let longest = vec![255; MAX_MESSAGE_BYTES];
    let to = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535".parse().unwrap();
    let word = LastWord { to, datagram: longest.clone() };
    let words = LastWords(vec![word.clone(); super::inbox::MAX_PEERS]);
    let line = words.to_line();
    assert!(line.len() <= MAX_LAST_WORDS_BYTES);
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(LastWords::from_line(line.trim_ascii_end()).unwrap(), words);
    let too_many = LastWords(vec![word; super::inbox::MAX_PEERS + 1]);
    let too_long = LastWords(vec![LastWord { to, datagram: [longest, vec![0]].concat() }]);
    for wrong in [too_many, too_long] {
        LastWords::from_line(wrong.to_line().trim_ascii_end()).unwrap_err();
    }
}

mod inbox {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(id("gw-2"), boot(2))
    }

    fn hello(from_boot: u8, to_boot: u8, seq: u64) -> Message {
        Message { from_boot: boot(from_boot), to_boot: boot(to_boot), seq, ..message(Body::Hello) }
    }

    #[test]
    fn peer_that_does_not_know_this_run_is_greeted_and_not_believed() {
        let mut inbox = inbox();
        assert_eq!(inbox.judge(&hello(1, 0, 1)), Verdict::Greet);
        assert_eq!(inbox.judge(&hello(1, 9, 2)), Verdict::Greet);
        assert_eq!(inbox.run_of(&id("gw-1")), BootId::NONE);
        assert_eq!(inbox.judge(&hello(1, 2, 3)), Verdict::NewRun);
        assert_eq!(inbox.run_of(&id("gw-1")), boot(1));
    }

    #[test]
    fn recorded_messages_are_no_news() {
        let mut inbox = inbox();
        assert_eq!(inbox.judge(&hello(1, 2, 5)), Verdict::NewRun);
        assert_eq!(inbox.judge(&hello(1, 2, 5)), Verdict::Ignore);
        assert_eq!(inbox.judge(&hello(1, 2, 4)), Verdict::Ignore);
        assert_eq!(inbox.judge(&hello(1, 2, 6)), Verdict::News);
    }

    #[test]
    fn ended_run_does_not_come_back() {
        let mut inbox = inbox();
        inbox.judge(&hello(1, 2, 5));
        assert_eq!(inbox.judge(&hello(3, 2, 1)), Verdict::NewRun);
        assert_eq!(inbox.judge(&hello(1, 2, 99)), Verdict::Ignore);
        assert_eq!(inbox.judge(&hello(1, 0, 99)), Verdict::Ignore);
        assert_eq!(inbox.run_of(&id("gw-1")), boot(3));
    }

    #[test]
    fn end_of_a_run_is_news_once_and_of_whichever_run() {
        let mut inbox = inbox();
        let ended = |boot| Message { seq: u64::MAX, body: Body::Ended, ..hello(boot, 2, 0) };
        inbox.judge(&hello(1, 2, 5));
        assert_eq!(inbox.judge(&ended(1)), Verdict::News);
        assert_eq!(inbox.judge(&ended(1)), Verdict::Ignore);
        // What it said before, and comes later.
        assert_eq!(inbox.judge(&hello(1, 2, 6)), Verdict::Ignore);
        // A run that was never heard of, and one whose successor is heard already: neither is believed to run.
        assert_eq!(inbox.judge(&hello(4, 2, 1)), Verdict::NewRun);
        assert_eq!(inbox.judge(&ended(3)), Verdict::News);
        assert_eq!(inbox.run_of(&id("gw-1")), boot(4));
        assert_eq!(inbox.judge(&hello(4, 2, 2)), Verdict::News);
        // For another run of ours, or for somebody else.
        let recorded = Message { to_boot: boot(9), ..ended(4) };
        assert_eq!(inbox.judge(&recorded), Verdict::Greet);
        assert_eq!(inbox.judge(&Message { to: id("gw-3"), ..ended(4) }), Verdict::Ignore);
    }

    #[test]
    fn messages_for_others_and_reflected_ones_are_ignored() {
        let mut inbox = inbox();
        let other = Message { to: id("gw-3"), ..hello(1, 2, 1) };
        assert_eq!(inbox.judge(&other), Verdict::Ignore);
        let reflected = Message { from: id("gw-2"), from_boot: boot(2), ..hello(1, 2, 1) };
        assert_eq!(inbox.judge(&reflected), Verdict::Ignore);
    }

    #[test]
    fn second_process_of_the_same_name_is_found() {
        let mut inbox = inbox();
        let namesake = Message { from: id("gw-2"), ..hello(8, 2, 1) };
        assert_eq!(inbox.judge(&namesake), Verdict::Namesake);
        let earlier_run = Message { from: id("gw-2"), ..hello(8, 7, 1) };
        assert_eq!(inbox.judge(&earlier_run), Verdict::Greet);
    }

    #[test]
    fn names_are_bounded() {
        let mut inbox = inbox();
        for number in 0..400 {
            inbox.judge(&Message { from: id(&format!("g{number}")), ..hello(1, 2, 1) });
        }
        assert_eq!(inbox.runs.len(), super::super::inbox::MAX_PEERS);
    }
}
