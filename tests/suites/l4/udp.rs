//! UDP listeners.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::{App, Config, DEADLINE, Gateway, eventually, finish};

use crate::log_entries;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Answers each datagram with what `answer` makes of it, until it is dropped.
pub struct Responder {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Responder {
    fn start(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).expect("the loopback has free ports");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("the socket is ours");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (received, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, over) = (received.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !over.load(Ordering::Acquire) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
                counter.fetch_add(1, Ordering::AcqRel);
                if let Some(reply) = answer(&buffer[..count]) {
                    // A client that is gone is nothing that it can help.
                    socket.send_to(&reply, from).ok();
                }
            }
        });
        Self { address, received, is_over, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn echo(name: &'static str) -> Self {
        Self::start(move |datagram| Some([name.as_bytes(), datagram].concat()))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.thread.take().into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

fn gateway(responders: &[&Responder], more: &[&str]) -> Gateway {
    let mut app = App::new("dns");
    for (number, responder) in responders.iter().enumerate() {
        app = app.udp_endpoint("v1", &format!("c{number}"), responder.address);
    }
    let lines: Vec<_> = [r#"protocol = "udp""#, r#"app = "dns""#].iter().chain(more).copied().collect();
    Gateway::start(&Config::new().app(&app).listener("dns", &lines).access_log("access.log", "json"))
}

fn client(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind(LOOPBACK).expect("the loopback has free ports");
    socket.connect(gateway.listener("dns")).expect("a datagram socket always connects");
    socket.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
    socket
}

fn ask(socket: &UdpSocket, datagram: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(datagram)?;
    let mut reply = vec![0; 1 << 16];
    let count = socket.recv(&mut reply)?;
    reply.truncate(count);
    Ok(reply)
}

fn count(gateway: &Gateway, family: &str) -> u64 {
    gateway.metrics().count(family, &[("listener", "dns")])
}

#[test]
fn datagrams_come_back_as_they_went_whatever_their_size() {
    let responder = Responder::echo("");
    let gateway = gateway(&[&responder], &[]);
    let client = client(&gateway);
    for size in [1, 512, 1_472, 9_000, 65_507] {
        let sent = crate::pattern(size);
        assert!(ask(&client, &sent).expect("it is answered") == sent, "{size} bytes");
    }
    client.send(b"").expect("the socket is ours");
    eventually(DEADLINE, "an empty one passes, too", || responder.received.load(Ordering::Acquire) == 6);
    assert_eq!(count(&gateway, "sluice_udp_sessions_total"), 1);
    let bytes = gateway.metrics().count("sluice_received_bytes_total", &[("app", "dns")]);
    assert_eq!(bytes, 1 + 512 + 1_472 + 9_000 + 65_507);
}

#[test]
fn every_client_keeps_its_endpoint_and_gets_its_own_answers() {
    let (a, b) = (Responder::echo("a"), Responder::echo("b"));
    let gateway = gateway(&[&a, &b], &[]);
    let clients: Vec<_> = (0..100).map(|_| client(&gateway)).collect();
    let asked = |number: usize, round: usize| format!("{number}:{round}");
    let first: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            let reply = ask(client, asked(number, 0).as_bytes()).expect("it is answered");
            assert_eq!(&reply[1..], asked(number, 0).as_bytes());
            reply[0]
        })
        .collect();
    assert!(first.contains(&b'a') && first.contains(&b'b'));
    for (number, (client, endpoint)) in clients.iter().zip(first).enumerate() {
        let reply = ask(client, asked(number, 1).as_bytes()).expect("it is answered");
        assert_eq!((reply[0], &reply[1..]), (endpoint, asked(number, 1).as_bytes()));
    }
    assert_eq!(count(&gateway, "sluice_udp_sessions_open"), 100);
    assert_eq!(count(&gateway, "sluice_udp_received_total"), 200);
    assert_eq!(count(&gateway, "sluice_udp_sent_total"), 200);
}

#[test]
fn a_silent_session_ends_and_leaves_a_line() {
    let responder = Responder::echo("");
    let gateway = gateway(&[&responder], &[r#"idle_timeout = "1s""#]);
    let client = client(&gateway);
    ask(&client, b"four").expect("it is answered");
    let open = || count(&gateway, "sluice_udp_sessions_open");
    eventually(DEADLINE, "the session is over", || open() == 0);
    assert_eq!(count(&gateway, "sluice_udp_sessions_expired_total"), 1);
    let entry = log_entries(&gateway, 1).remove(0);
    assert_eq!(
        (&entry["method"], &entry["app"], &entry["reason"]),
        (&"UDP".into(), &"dns".into(), &"".into())
    );
    assert_eq!((entry["received_bytes"].as_u64(), entry["sent_bytes"].as_u64()), (Some(4), Some(4)));
    // The next datagram begins another one.
    assert_eq!(ask(&client, b"again").expect("it is answered"), b"again");
    assert_eq!(count(&gateway, "sluice_udp_sessions_total"), 2);
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_counted() {
    let responder = Responder::echo("");
    let gateway = gateway(&[&responder], &["max_sessions = 1"]);
    // Two workers, so at most two of them are served.
    let clients: Vec<_> = (0..20).map(|_| client(&gateway)).collect();
    clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
    eventually(DEADLINE, "the others are counted", || count(&gateway, "sluice_udp_refused_total") >= 18);
    assert!(count(&gateway, "sluice_udp_sessions_open") <= 2);
}

#[test]
fn an_endpoint_that_is_gone_is_left_for_another() {
    let (gone, there) = (Responder::echo("gone"), Responder::echo("there"));
    let gateway = gateway(&[&gone, &there], &[]);
    drop(gone);
    let clients: Vec<_> = (0..10).map(|_| client(&gateway)).collect();
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("the socket is ours");
        // The first datagram to a port that nobody has is lost: its absence is heard of after it.
        eventually(DEADLINE, "it is answered by who is there", || {
            ask(client, b"").is_ok_and(|all| all == b"there")
        });
    }
}

#[test]
fn datagrams_without_an_endpoint_are_counted_and_no_harm() {
    let gateway = gateway(&[], &[]);
    let client = client(&gateway);
    client.send(b"?").expect("the socket is ours");
    eventually(DEADLINE, "it is counted", || count(&gateway, "sluice_udp_dropped_total") == 1);
    let responder = Responder::echo("");
    gateway.put_app(&App::new("dns").udp_endpoint("v1", "c0", responder.address));
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("the socket is ours");
    eventually(DEADLINE, "the app is there", || ask(&client, b"!").is_ok_and(|all| all == b"!"));
}

#[test]
fn an_end_of_the_gateway_waits_for_no_session() {
    let responder = Responder::echo("");
    let mut gateway = gateway(&[&responder], &[]);
    let client = client(&gateway);
    ask(&client, b"x").expect("it is answered");
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(DEADLINE).success());
}

/// A resolver that knows one address for every name.
fn resolver() -> Responder {
    Responder::start(|query| {
        let question_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
        let mut reply = [query.get(..2)?, &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
        reply.extend(query.get(12..question_end)?);
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
        Some(reply)
    })
}

#[test]
fn dns_is_resolved_through_it() {
    let resolver = resolver();
    let gateway = gateway(&[&resolver], &[]);
    let port = gateway.listener("dns").port().to_string();
    let mut dig = Command::new("dig");
    dig.args(["@127.0.0.1", "-p", &port, "+short", "+timeout=5", "any.example", "A"]);
    let answer = finish(&mut dig, "", DEADLINE);
    assert_eq!((answer.code, answer.stdout.trim()), (Some(0), "192.0.2.53"), "{}", answer.text());
}
