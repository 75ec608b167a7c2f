use proptest::prelude::*;

use super::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn header(length: usize, addresses: Option<Addresses>) -> FirstBytes {
    FirstBytes::Header { length, addresses }
}

/// A version 2 header with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let fixed = [&V2_SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes()].concat();
    [&fixed[..], rest].concat()
}

const IPV4_BLOCK: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb];

#[test]
fn version_1_lines_are_read_as_the_specification_writes_them() {
    for (line, wanted) in [
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Some(addresses("192.168.0.1:56324", "192.168.0.11:443")),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", Some(addresses("[2001:db8::1]:65535", "[::1]:0"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    ] {
        assert_eq!(read_header(format!("{line}rest").as_bytes()), header(line.len(), wanted), "{line:?}");
    }
}

#[test]
fn version_1_lines_that_break_a_rule_are_malformed() {
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(MAX_V1_BYTES - 15));
    for bad in [
        "PROXY \r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
        "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \0",
        &long,
    ] {
        assert_eq!(read_header(bad.as_bytes()), FirstBytes::Malformed, "{bad:?}");
    }
}

#[test]
fn version_2_headers_are_read_with_what_they_stand_for() {
    let v4 = Some(addresses("192.0.2.1:8080", "198.51.100.2:443"));
    let with_tlv = [&IPV4_BLOCK[..], &[0x02, 0, 3, b'a', b'.', b'b']].concat();
    let v6_block = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1, 0, 80, 0, 81]].concat();
    for (command, family, rest, wanted) in [
        (0x21, 0x11, &IPV4_BLOCK[..], v4),
        (0x21, 0x11, &with_tlv, v4),
        (0x21, 0x21, &v6_block, Some(addresses("[2001:db8::1]:80", "[::1]:81"))),
        (0x21, 0x31, &[0; 216], None),
        (0x21, 0x12, &IPV4_BLOCK, None),
        (0x21, 0x00, b"anything", None),
        (0x20, 0x00, b"", None),
        (0x20, 0x11, &IPV4_BLOCK[..3], None),
    ] {
        let sent = v2(command, family, rest);
        let read = read_header(&[&sent[..], b"rest"].concat());
        assert_eq!(read, header(sent.len(), wanted), "{command:x} {family:x}");
    }
}

#[test]
fn version_2_headers_that_break_a_rule_are_malformed() {
    let tlv = |bytes: &[u8]| v2(0x21, 0x11, &[&IPV4_BLOCK[..], bytes].concat());
    for bad in [
        v2(0x11, 0x11, &IPV4_BLOCK),
        v2(0x22, 0x11, &IPV4_BLOCK),
        v2(0x21, 0x41, &IPV4_BLOCK),
        v2(0x21, 0x13, &IPV4_BLOCK),
        v2(0x21, 0x11, &IPV4_BLOCK[..11]),
        v2(0x21, 0x21, &IPV4_BLOCK),
        v2(0x21, 0x31, &[0; 215]),
        tlv(&[4]),
        tlv(&[4, 0, 1]),
        tlv(&[TLV_CRC32C, 0, 2, 0, 0]),
        tlv(&[TLV_CRC32C, 0, 4, 0, 0, 0, 0]),
        [&V2_SIGNATURE[..], &[0x21, 0x11, 0x10, 0x01]].concat(),
    ] {
        assert_eq!(read_header(&bad), FirstBytes::Malformed, "{bad:02x?}");
    }
}

#[test]
fn a_checksum_is_verified() {
    let mut sent =
        v2(0x21, 0x11, &[&IPV4_BLOCK[..], &[4, 0, 1, 9], &[TLV_CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let sum = crc32c(&[&sent]);
    let at = sent.len() - 4;
    sent[at..].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(read_header(&sent), FirstBytes::Header { .. }));
    let mut twice = sent.clone();
    twice[15] += 7;
    twice.extend_from_within(at - 3..);
    assert_eq!(read_header(&twice), FirstBytes::Malformed);
    // The type of the checksum aside: without it there is none to be wrong.
    for position in (16..sent.len()).filter(|position| *position != at - 3) {
        let mut flipped = sent.clone();
        flipped[position] ^= 0x10;
        assert!(!matches!(read_header(&flipped), FirstBytes::Header { .. }), "byte {position}");
    }
}

#[test]
fn other_protocols_are_told_apart_by_their_first_bytes() {
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"PROXYTCP", b"PUT", b"\r\nGET", b"\x16\x03\x01", b"proxy "] {
        assert_eq!(read_header(other), FirstBytes::NotProxy, "{}", other.escape_ascii());
    }
    assert_eq!(read_header(b""), FirstBytes::NeedMore);
}

#[test]
fn families_that_differ_are_written_as_one() {
    let mixed = addresses("192.0.2.1:1", "[2001:db8::1]:2");
    let mapped = addresses("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2");
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut written = Vec::new();
        write_header(version, mixed, &mut written);
        assert_eq!(read_header(&written), header(written.len(), Some(mapped)));
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        // Mapped addresses become what they map to.
        (any::<[u8; 16]>(), any::<u16>())
            .prop_map(SocketAddr::from)
            .prop_filter("mapped", |address| address.ip().to_canonical() == address.ip()),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_arrives(
        source in any_address(),
        destination in any_address(),
        is_v1: bool,
        after in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let version = if is_v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        let mut sent = Vec::new();
        write_header(version, Addresses { source, destination }, &mut sent);
        let length = sent.len();
        for end in 0..length {
            prop_assert_eq!(read_header(&sent[..end]), FirstBytes::NeedMore, "cut at {}", end);
        }
        sent.extend(after);
        let FirstBytes::Header { length: read_length, addresses: Some(read) } = read_header(&sent) else {
            return Err(TestCaseError::fail("no header"));
        };
        prop_assert_eq!(read_length, length);
        prop_assert_eq!(read.source.ip().to_canonical(), source.ip());
        prop_assert_eq!(read.destination.ip().to_canonical(), destination.ip());
        prop_assert_eq!((read.source.port(), read.destination.port()), (source.port(), destination.port()));
    }

    #[test]
    fn more_bytes_never_change_an_answer(
        mut sent in proptest::collection::vec(any::<u8>(), 0..130),
        start in 0..3_usize,
    ) {
        let start: &[u8] = [V1_START, V2_SIGNATURE, &[]][start];
        sent.splice(0..0, start.iter().copied());
        let mut decided = None;
        for end in 0..=sent.len() {
            let now = read_header(&sent[..end]);
            match &decided {
                Some(before) => prop_assert_eq!(&now, before),
                None if now == FirstBytes::NeedMore => {}
                None => decided = Some(now),
            }
        }
    }
}
