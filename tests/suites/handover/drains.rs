//! What is left to a process that has handed over.

use std::fs;
use std::net::UdpSocket;
use std::thread;

use rustix::process::Signal;
use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, RawClient, eventually};

use crate::traffic::Rounds;
use crate::{assert_echoes, config, echo, tunnel, websocket};

#[test]
fn an_idle_connection_is_told_to_close_with_its_next_answer() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()).handover());
    let mut idle = gateway.connect();
    assert_eq!(idle.get("a", "/").status, 200);
    let mut unused = gateway.connect();
    let mut former = gateway.hand_over();
    for client in [&mut idle, &mut unused] {
        let response = client.get("a", "/");
        assert_eq!(response.status, 200);
        assert!(response.fields.lists("connection", "close"), "{response:?}");
        assert!(client.is_ended());
    }
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
    let response = gateway.get("a", "/");
    assert!(!response.fields.lists("connection", "close"), "{response:?}");
}

#[test]
fn who_drains_and_how_much_is_told_over_generations() {
    let (endpoint, echo) = (Endpoint::start("c1"), echo());
    let mut gateway = Gateway::start(&config(&endpoint, &echo));
    let first = gateway.pid();
    assert_eq!(gateway.admin_json("/v1/process")["predecessor"], serde_json::Value::Null);
    let (mut tcp, mut ws) = (tunnel(&gateway), websocket(&gateway, "ws.test"));
    let mut former = vec![gateway.hand_over()];
    let second = gateway.pid();
    let mut other = tunnel(&gateway);
    former.push(gateway.hand_over());
    let draining = |gateway: &Gateway| {
        let process = gateway.admin_json("/v1/process");
        let of = |one: &serde_json::Value| {
            (one["pid"].as_u64(), one["generation"].as_u64(), one["connections"].as_u64())
        };
        process["draining"].as_array().expect("a list").iter().map(of).collect::<Vec<_>>()
    };
    let expected = [(Some(first.into()), Some(1), Some(2)), (Some(second.into()), Some(2), Some(1))];
    eventually(DEADLINE, "both are told", || draining(&gateway) == expected);
    let process = gateway.admin_json("/v1/process");
    assert_eq!((&process["generation"], &process["predecessor"]), (&3.into(), &second.into()));
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("sluice_draining_processes", &[]), 2);
    assert_eq!(metrics.count("sluice_draining_connections", &[]), 3);
    assert_eq!(metrics.count("sluice_handovers_total", &[("result", "completed")]), 2);
    [&mut tcp, &mut ws, &mut other].into_iter().for_each(assert_echoes);
    drop((tcp, ws));
    eventually(DEADLINE, "one is gone", || draining(&gateway) == expected[1..]);
    drop(other);
    eventually(DEADLINE, "both are gone", || draining(&gateway).is_empty());
    for process in &mut former {
        assert_eq!(process.wait(DEADLINE).code(), Some(0));
    }
}

#[test]
fn what_outlasts_the_drain_is_cut() {
    let (endpoint, echo) = (Endpoint::start("c1"), echo());
    let config = config(&endpoint, &echo).gateway(r#"handover_drain_timeout = "300ms""#);
    let mut gateway = Gateway::start(&config);
    let mut tunnel = tunnel(&gateway);
    let mut former = gateway.hand_over();
    assert!(tunnel.is_ended());
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_draining_process_that_is_stopped_takes_no_longer_than_any_other() {
    let (endpoint, echo) = (Endpoint::start("c1"), echo());
    let config = config(&endpoint, &echo).gateway(r#"drain_timeout = "300ms""#);
    let mut gateway = Gateway::start(&config);
    let (mut tunnel, mut idle) = (tunnel(&gateway), gateway.connect());
    assert_eq!(idle.get("a", "/").status, 200);
    let mut former = gateway.hand_over();
    assert_echoes(&mut tunnel);
    former.signal(Signal::TERM);
    assert!(idle.is_ended());
    assert!(tunnel.is_ended());
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
    assert_eq!(gateway.get("a", "/").status, 200);
}

#[test]
fn a_rotated_log_is_opened_anew_by_all_that_write_to_it() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("c1", &gate);
    let config = Config::in_front_of(endpoint.address()).handover().access_log("access.log", "json");
    let mut gateway = Gateway::start(&config);
    let mut slow = gateway.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    let _former = gateway.hand_over();
    assert_eq!(gateway.get("a", "/before").status, 200);
    let read = |name: &str| fs::read_to_string(gateway.folder().join(name)).unwrap_or_default();
    eventually(DEADLINE, "the new process writes", || read("access.log").contains("/before"));
    fs::rename(gateway.folder().join("access.log"), gateway.folder().join("rotated.log"))
        .expect("it is there");
    gateway.signal(Signal::HUP);
    eventually(DEADLINE, "the former process hears of it", || {
        gateway.output().contains("log files are opened anew, as the newer process does")
    });
    gate.open();
    assert_eq!(slow.receive().text(), "finished");
    eventually(DEADLINE, "its line is in the new file", || read("access.log").contains("/slow"));
    assert!(!read("rotated.log").contains("/slow"));
}

#[test]
fn datagrams_go_to_the_next_process_and_none_is_lost() {
    let responder = UdpSocket::bind("127.0.0.1:0").expect("the loopback has free ports");
    let address = responder.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut buffer = [0; 100];
        // Until the test's process ends.
        while let Ok((count, from)) = responder.recv_from(&mut buffer) {
            responder.send_to(&buffer[..count], from).ok();
        }
    });
    let config = Config::new()
        .app(&App::new("dns").udp_endpoint("v1", "c1", address))
        .listener("dns", &[r#"protocol = "udp""#, r#"app = "dns""#])
        .handover();
    let mut gateway = Gateway::start(&config);
    let listener = gateway.listener("dns");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback has free ports");
            socket.connect(listener).expect("an address");
            socket.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
            let mut number = 0_u32;
            Rounds::start(move || {
                number += 1;
                socket.send(&number.to_be_bytes())?;
                let mut answer = [0; 4];
                socket.recv(&mut answer)?;
                (answer == number.to_be_bytes()).then_some(()).ok_or_else(|| std::io::Error::other("another"))
            })
        })
        .collect();
    let mut former = Vec::new();
    for workers in [2, 3, 1] {
        gateway.put_config(&config.clone().workers(workers));
        former.push(gateway.hand_over());
        let before: Vec<_> = clients.iter().map(Rounds::done).collect();
        eventually(DEADLINE, "every client is answered", || {
            clients.iter().zip(&before).all(|(client, before)| client.done() > before + 10)
        });
    }
    for client in clients {
        client.stop("datagrams");
    }
    for process in &mut former {
        assert_eq!(process.wait(DEADLINE).code(), Some(0));
    }
}

#[test]
fn a_listener_that_is_not_continued_is_closed_and_a_new_one_is_opened() {
    let (endpoint, echo) = (Endpoint::start("c1"), echo());
    let base = config(&endpoint, &echo);
    let mut gateway = Gateway::start(&base);
    let (db, mut open) = (gateway.listener("db"), tunnel(&gateway));
    gateway.put_config(&base.without("db").listener("more", &[r#"protocol = "http""#]));
    let _former = gateway.hand_over();
    eventually(DEADLINE, "nothing listens there", || std::net::TcpStream::connect(db).is_err());
    assert_echoes(&mut open);
    assert_eq!(RawClient::connect(gateway.listener("more")).get("a", "/").status, 200);
}

#[test]
fn a_process_that_drains_holds_no_listening_socket() {
    let (endpoint, echo) = (Endpoint::start("c1"), echo());
    let mut gateway = Gateway::start(&config(&endpoint, &echo));
    let mut tunnel = tunnel(&gateway);
    let _former = gateway.hand_over();
    gateway.kill();
    // Whoever connects is refused, and does not wait for a process that never looks.
    for address in [gateway.web(), gateway.listener("db"), gateway.admin()] {
        eventually(DEADLINE, "nobody listens", || std::net::TcpStream::connect(address).is_err());
    }
    assert_echoes(&mut tunnel);
}
