use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// A vector with its length in two bytes.
fn vector16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vector16(&[&[HOST_NAME][..], &vector16(name)].concat()))
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat()).collect();
    extension(ALPN, &vector16(&list))
}

/// A handshake message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; RANDOM_BYTES]);
    body.push(0);
    body.extend(vector16(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector16(extensions));
    let length = (body.len() as u32).to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], &body].concat()
}

/// `message` in records of at most `most` bytes.
fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[HANDSHAKE_RECORD, 3, 1][..], &vector16(part)].concat()).collect()
}

fn read(extensions: &[u8]) -> FirstBytes {
    read_client_hello(&records(&message(extensions), MAX_RECORD_BYTES))
}

fn name_of(first: &FirstBytes) -> Option<&str> {
    match first {
        FirstBytes::Hello(hello) => hello.server_name.as_deref(),
        other => panic!("no hello: {other:?}"),
    }
}

/// What rustls sends first, with its post-quantum key share.
fn rustls_hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    client.write_tls(&mut sent).unwrap();
    sent
}

#[test]
fn name_and_protocols_of_a_real_hello_are_found() {
    let sent = rustls_hello("Db.Example.com", &["h2", "http/1.1"]);
    let FirstBytes::Hello(hello) = read_client_hello(&sent) else { panic!("{sent:02x?}") };
    assert_eq!(hello.server_name.as_deref(), Some("db.example.com"));
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(
        read_client_hello(&rustls_hello("127.0.0.1", &[])),
        FirstBytes::Hello(Hello { server_name: None, alpn: Box::default() })
    );
}

/// What clients in the field send, recorded.
macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/client_hello/", $name))
    };
}

#[test]
fn hellos_of_openssl_and_curl_are_read() {
    for (sent, name, protocols) in [
        (&recorded!("openssl_tls13")[..], Some("db.example.com"), &["h2", "http/1.1"][..]),
        (recorded!("openssl_tls12"), Some("db.example.com"), &[]),
        (recorded!("openssl_no_name"), None, &[]),
        (recorded!("curl"), Some("a.test"), &["h2", "http/1.1"]),
        (recorded!("curl_address"), None, &["h2", "http/1.1"]),
        (recorded!("python"), Some("py.example"), &[]),
    ] {
        let FirstBytes::Hello(hello) = read_client_hello(sent) else { panic!("{name:?}") };
        assert_eq!(hello.server_name.as_deref(), name);
        assert_eq!(
            hello.alpn().collect::<Vec<_>>(),
            protocols.iter().map(|p| p.as_bytes()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn names_are_lower_case_and_without_a_dot_and_addresses_are_none() {
    for (sent, wanted) in [
        ("Shop.EXAMPLE.com", Some("shop.example.com")),
        ("shop.example.com.", Some("shop.example.com")),
        ("_dmarc.a-b.example", Some("_dmarc.a-b.example")),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
    ] {
        assert_eq!(name_of(&read(&server_name(sent.as_bytes()))), wanted, "{sent}");
    }
    assert_eq!(name_of(&read(&[])), None);
}

#[test]
fn no_extensions_at_all_is_a_hello() {
    let mut whole = message(&[]);
    whole.truncate(whole.len() - 2);
    let length = (whole.len() - MESSAGE_HEADER) as u8;
    whole[3] = length;
    assert_eq!(name_of(&read_client_hello(&records(&whole, 100))), None);
}

#[test]
fn names_that_are_none_are_refused() {
    let long = "a".repeat(64);
    let bad: [&[u8]; 9] =
        [b"", b"a..b", b"a b", b"a\0b", b"a/b", b"shop:443", b"[::1]", b"\xc3\xa4.de", long.as_bytes()];
    for name in bad {
        assert_eq!(read(&server_name(name)), FirstBytes::Malformed, "{}", name.escape_ascii());
    }
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let two_names = extension(
        SERVER_NAME,
        &vector16(&[&[HOST_NAME][..], &vector16(b"a.b"), &[0], &vector16(b"c.d")].concat()),
    );
    let other_kind = extension(SERVER_NAME, &vector16(&[&[1][..], &vector16(b"a.b")].concat()));
    let after_list = extension(
        SERVER_NAME,
        &[vector16(&[&[HOST_NAME][..], &vector16(b"a.b")].concat()), vec![0]].concat(),
    );
    for extensions in [
        two_names,
        other_kind,
        after_list,
        extension(SERVER_NAME, &[]),
        [server_name(b"a.b"), server_name(b"a.b")].concat(),
        [alpn(&["h2"]), alpn(&["h2"])].concat(),
        alpn(&[]),
        alpn(&[""]),
        extension(ALPN, &vector16(&[5, b'h'])),
        vec![0, 0, 0],
        [server_name(b"a.b"), vec![0]].concat(),
    ] {
        assert_eq!(read(&extensions), FirstBytes::Malformed, "{extensions:02x?}");
    }
}

#[test]
fn other_protocols_are_told_apart_by_their_first_bytes() {
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x02",
        b"\x80\x2e\x01",
        b"\0",
        b"\x15\x03\x01",
    ] {
        assert_eq!(read_client_hello(other), FirstBytes::NotTls, "{}", other.escape_ascii());
    }
}

#[test]
fn tls_that_breaks_a_rule_is_malformed() {
    for broken in [
        // An empty fragment, one that is too long, another message, another record within the message.
        &[22, 3, 1, 0, 0][..],
        &[22, 3, 1, 0x40, 1],
        &[22, 3, 1, 0, 9, 2],
        &[22, 3, 1, 0, 2, 1, 0, 21],
        // A message that cannot fit.
        &[22, 3, 1, 0x40, 0, 1, 0, 0x40, 0],
    ] {
        assert_eq!(read_client_hello(broken), FirstBytes::Malformed, "{broken:02x?}");
    }
}

#[test]
fn a_hello_above_the_bound_is_refused_before_it_has_arrived() {
    let filler = |bytes: usize| extension(0xfafa, &vec![0; bytes]);
    let empty = records(&message(&filler(0)), MAX_RECORD_BYTES).len();
    let largest = records(&message(&filler(MAX_HELLO_BYTES - empty)), MAX_RECORD_BYTES);
    assert_eq!(largest.len(), MAX_HELLO_BYTES);
    assert_eq!(name_of(&read_client_hello(&largest)), None);
    let larger = records(&message(&filler(MAX_HELLO_BYTES - empty + 1)), MAX_RECORD_BYTES);
    assert_eq!(read_client_hello(&larger[..RECORD_HEADER + MESSAGE_HEADER]), FirstBytes::Malformed);
    // Record headers count: 10 KiB one byte at a time are 60 KiB.
    let crumbs = records(&message(&filler(10 << 10)), 1);
    assert_eq!(read_client_hello(&crumbs), FirstBytes::Malformed);
}

proptest! {
    #[test]
    fn records_and_segments_change_nothing(
        name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}",
        most in 1..400_usize,
        after in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let sent = records(&message(&[server_name(name.as_bytes()), alpn(&["h2"])].concat()), most);
        for end in 0..sent.len() {
            prop_assert_eq!(read_client_hello(&sent[..end]), FirstBytes::NeedMore, "cut at {}", end);
        }
        let whole = read_client_hello(&sent);
        prop_assert_eq!(name_of(&whole), Some(&*name));
        prop_assert_eq!(read_client_hello(&[sent, after].concat()), whole);
    }

    #[test]
    fn more_bytes_never_change_an_answer(
        at in 0..2_000_usize,
        value: u8,
        most in 1..2_000_usize,
    ) {
        let mut sent = rustls_hello("db.example.com", &["h2"]);
        let position = at % sent.len();
        sent[position] = value;
        let content = sent[RECORD_HEADER..].to_vec();
        for sent in [sent, records(&content, most)] {
            let whole = read_client_hello(&sent);
            let mut decided = None;
            for end in 0..=sent.len() {
                let now = read_client_hello(&sent[..end]);
                match &decided {
                    Some(before) => prop_assert_eq!(&now, before),
                    None if now == FirstBytes::NeedMore => {}
                    None => decided = Some(now),
                }
            }
            prop_assert_eq!(decided.unwrap_or(FirstBytes::NeedMore), whole);
        }
    }
}
