//! What an attacker would send, and what he gets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tests::{DEADLINE, Gateway, comes_true, dig, eventually};

use crate::{app, config, leads_to};

/// A query for `name`'s address.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label is short"));
        bytes.extend(label.as_bytes());
    }
    [&bytes[..], &[0, 0, 1, 0, 1]].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a query is short");
    [&length.to_be_bytes(), message].concat()
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback has free ports");
    socket.connect(server).expect("a datagram socket always connects");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("the socket is ours");
    socket
}

fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 4096];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|count| buffer[..count].to_vec())).collect()
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("it accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
    stream
}

#[test]
fn a_flood_of_one_query_gets_few_answers_and_a_sign_to_come_by_tcp() {
    let gateway = Gateway::start(&config("rate_limit = { responses = 10, total = 1000 }").app(&app("shop")));
    let server = gateway.dns();
    let socket = client(server);
    let mut answers = Vec::new();
    for round in 0..10 {
        for id in 0..100 {
            socket.send(&query(round * 100 + id, "shop.apps.test")).expect("the socket is ours");
        }
        answers.extend(drain(&socket));
    }
    let is_truncated = |answer: &&Vec<u8>| answer[2] & 2 != 0;
    let whole = answers.iter().filter(|answer| !is_truncated(answer)).count();
    let slipped = answers.iter().filter(is_truncated).count();
    // A second's worth to begin with, and debt from then on.
    assert!((10..=100).contains(&whole), "{whole} whole answers to 1000 queries");
    assert!(slipped >= 300 && answers.len() < 700, "{slipped} truncated, {} in all", answers.len());
    let held = |action| gateway.metrics().count("sluice_dns_rate_limited_total", &[("action", action)]);
    assert!(held("drop") >= 300 && held("slip") as usize >= slipped);
    // Who really asks is served.
    let asked = dig(server, &["+tries=10", "+time=1", "shop.apps.test", "A"]);
    assert!(asked.contains("Truncated, retrying in TCP mode") && asked.contains("192.0.2.10"), "{asked}");
}

#[test]
fn who_is_exempt_is_not_limited() {
    let limit = "rate_limit = { responses = 1, total = 1, exempt = [\"127.0.0.0/8\"] }";
    let gateway = Gateway::start(&config(limit).app(&app("shop")));
    let socket = client(gateway.dns());
    let mut answered = 0;
    for id in 0..100 {
        socket.send(&query(id, "shop.apps.test")).expect("the socket is ours");
        answered += drain_one(&socket);
    }
    assert_eq!(answered, 100);
}

fn drain_one(socket: &UdpSocket) -> usize {
    usize::from(socket.recv(&mut [0; 4096]).is_ok())
}

#[test]
fn whatever_comes_as_a_datagram_names_are_answered_and_no_answer_is_larger_than_its_query() {
    let gateway = Gateway::start(&config("rate_limit = false").app(&app("shop")));
    let server = gateway.dns();
    let good = query(1, "shop.apps.test");
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let socket = client(server);
    for round in 0..3_000 {
        let mut bytes = good.clone();
        match round % 3 {
            0 => bytes = (0..random(600)).map(|_| random(256) as u8).collect(),
            1 => {
                for _ in 0..=random(8) {
                    let at = random(bytes.len());
                    bytes[at] = random(256) as u8;
                }
            }
            _ => bytes.truncate(random(bytes.len())),
        }
        socket.send(&bytes).expect("the socket is ours");
        if round % 100 == 99 {
            assert!(leads_to(server, "shop.apps.test", &["192.0.2.10"]), "round {round}");
        }
    }
    for answer in drain(&socket) {
        assert!(answer[2] & 0x80 != 0 && answer.len() <= 512);
    }
    let header = [0, 9, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    socket.send(&header).expect("the socket is ours");
    assert_eq!(drain(&socket), [[0, 9, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]], "FORMERR, a header alone");
    socket.send(&[&header[..2], &[0x80; 10]].concat()).expect("the socket is ours");
    assert!(drain(&socket).is_empty(), "an answer is not answered");
}

#[test]
fn connections_may_ask_in_pieces_and_many_times_and_end_when_they_are_slow_or_long() {
    let gateway = Gateway::start(&config("").app(&app("shop")));
    let server = gateway.dns();
    let mut stream = connect(server);
    let asked = framed(&query(3, "shop.apps.test"));
    for byte in &asked {
        stream.write_all(&[*byte]).expect("it reads");
    }
    stream.write_all(&[&asked[..], &asked[..], &asked[..]].concat()).expect("it reads");
    for _ in 0..4 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("it answers");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer[..2], [0, 3]);
    }
    // A question that never ends, one that is too long, and none.
    for begin in [&asked[..7], &[0xff, 0xff, 0], &[0, 1, 0]] {
        let mut stream = connect(server);
        stream.write_all(begin).expect("it reads");
        let ended = stream.read(&mut [0; 64]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| !is_timeout(&error)), "{begin:?}");
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

#[test]
fn one_address_has_only_so_many_connections_and_others_are_served_all_the_same() {
    let gateway = Gateway::start(&config("").app(&app("shop")));
    let server = gateway.dns();
    let held: Vec<_> = (0..100).map(|_| connect(server)).collect();
    let open = || gateway.metrics().count("sluice_dns_connections", &[]);
    eventually(DEADLINE, "some are refused", || {
        gateway.metrics().count("sluice_dns_connections_total", &[("event", "refused")]) >= 68
    });
    assert!(open() <= 32, "{} are open", open());
    assert!(leads_to(server, "shop.apps.test", &["192.0.2.10"]), "datagrams do not mind");
    let other = dig(server, &["+tcp", "-b", "127.0.0.2", "shop.apps.test", "A"]);
    assert!(other.contains("192.0.2.10"), "{other}");
    drop(held);
    assert!(comes_true(DEADLINE, || open() == 0));
}

#[test]
fn idle_connections_make_room_where_all_places_are_taken() {
    let gateway = Gateway::start(&config("").app(&app("shop")));
    let server = gateway.dns();
    let mut held = Vec::new();
    // From as many addresses as it takes to have all of them.
    for number in 10..30_u8 {
        for _ in 0..32 {
            let from = SocketAddr::from(([127, 0, 0, number], 0));
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.bind(&from.into()).expect("the loopback is a network");
            socket.connect(&server.into()).expect("it accepts");
            held.push(socket);
        }
    }
    eventually(DEADLINE, "the oldest ones had to go", || {
        gateway.metrics().count("sluice_dns_connections_total", &[("event", "evicted")]) > 0
    });
    let answer = dig(server, &["+tcp", "shop.apps.test", "A"]);
    assert!(answer.contains("192.0.2.10"), "{answer}");
    assert!(gateway.metrics().count("sluice_dns_connections", &[]) <= 512);
}
