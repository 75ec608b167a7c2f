//! Newer processes that do not come to serve, and older ones that die meanwhile.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Process, RawEndpoint, eventually, read_head};

use crate::traffic::connections;
use crate::{assert_goes_on, failures};

/// Answers probes once the gate is open.
fn probed(gate: &Gate) -> RawEndpoint {
    let gate = gate.clone();
    RawEndpoint::start_unrecorded(move |wire, _| {
        while read_head(wire)?.is_some() {
            gate.pass();
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    })
}

/// A process that takes over from this one stops when it has opened the registry, until the gate is open:
/// it waits for the endpoint's first probe.
fn stopping_late(endpoint: &Endpoint, probed: &RawEndpoint) -> Config {
    let slow = App::new("slow").host("slow.test").health(r#"timeout = "30s""#).health(r#"interval = "60s""#);
    Config::in_front_of(endpoint.address()).handover().app(&slow.endpoint("v1", "c1", probed.address()))
}

fn await_no_registry(gateway: &Gateway) {
    eventually(DEADLINE, "the registry is handed over", || {
        gateway.metrics().count("sluice_registry_connected", &[]) == 0
    });
}

#[test]
fn a_configuration_with_a_mistake_changes_nothing() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address()).handover();
    let gateway = Gateway::start(&base);
    gateway.put_config(&base.clone().gateway("wrokers = 2"));
    let mut successor = gateway.successor();
    assert_eq!(successor.wait(DEADLINE).code(), Some(1));
    assert!(gateway.output().contains("wrokers"), "{}", gateway.output());
    // It did not come as far as to ask.
    assert_eq!(failures(&gateway), 0);
    assert_goes_on(&gateway, gateway.pid());
}

#[test]
fn a_process_that_cannot_open_something_changes_nothing() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address()).handover();
    let mut gateway = Gateway::start(&base);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let no_files = r#"tls = { certificates = ["nowhere/*.pem"] }"#;
    let http = r#"protocol = "http""#;
    let wrong = [
        base.clone().listener_at("more", &address, &[http]),
        base.clone().listener("tls", &[http, no_files]),
        base.clone().access_log("nowhere/access.log", "json"),
    ];
    for (number, config) in wrong.iter().enumerate() {
        gateway.put_config(config);
        assert_eq!(gateway.successor().wait(DEADLINE).code(), Some(1));
        eventually(DEADLINE, "the failure is counted", || failures(&gateway) == number as u64 + 1);
        assert_goes_on(&gateway, gateway.pid());
    }
    let why = gateway.admin_json("/v1/process")["last_failure"].to_string();
    assert!(why.contains("gone"), "{why}");
    gateway.put_config(&base);
    drop(gateway.hand_over());
    assert_eq!(failures(&gateway), 3);
}

#[test]
fn a_registry_that_does_not_answer_is_no_reason_to_forget_a_table() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address()).handover();
    let gateway = Gateway::start(&base);
    let nobody = RawEndpoint::answering("");
    let address = nobody.address().to_string();
    drop(nobody);
    gateway.put_config(&base.clone().zookeeper(&address));
    assert_eq!(gateway.successor().wait(DEADLINE).code(), Some(1));
    assert!(gateway.output().contains("the registry does not answer"), "{}", gateway.output());
    assert_goes_on(&gateway, gateway.pid());
}

#[test]
fn a_process_killed_with_the_sockets_in_its_hands_changes_nothing() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address()).handover();
    let mut gateway = Gateway::start(&base);
    let pipe = gateway.folder().join("pipe.log");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("coreutils are installed");
    assert!(made.success());
    let client = connections(gateway.web());
    // It stops where it opens its log, since nobody reads there.
    gateway.put_config(&base.clone().access_log("pipe.log", "json"));
    for round in 1..4 {
        let mut successor = gateway.successor();
        let taking = || gateway.output().matches("\"taking over\"").count() == round;
        eventually(DEADLINE, "it has the sockets", taking);
        successor.kill();
        eventually(DEADLINE, "the failure is counted", || failures(&gateway) == round as u64);
        assert_goes_on(&gateway, gateway.pid());
    }
    gateway.put_config(&base);
    let former = gateway.hand_over();
    client.stop("new connections");
    drop(former);
}

#[test]
fn a_process_killed_with_the_registry_in_its_hands_gives_it_back() {
    let (endpoint, gate) = (Endpoint::start("c1"), Gate::default());
    let probed = probed(&gate);
    let mut gateway = Gateway::start(&stopping_late(&endpoint, &probed));
    let client = connections(gateway.web());
    for round in 1..4 {
        let mut successor = gateway.successor();
        await_no_registry(&gateway);
        assert_eq!(gateway.get("a", "/").status, 200);
        successor.kill();
        eventually(DEADLINE, "the failure is counted", || failures(&gateway) == round);
        assert_goes_on(&gateway, gateway.pid());
    }
    gate.open();
    let former = gateway.hand_over();
    client.stop("new connections");
    drop(former);
}

#[test]
fn first_probes_are_waited_for_so_that_a_dead_endpoint_gets_nothing() {
    let (good, bad) = (Endpoint::start("good"), Endpoint::start("bad"));
    bad.set_healthy(false);
    let app = App::new("two").host("*").probed();
    let app = app.endpoint("v1", "good", good.address()).endpoint("v1", "bad", bad.address());
    let mut gateway = Gateway::start(&Config::new().app(&app).handover());
    eventually(DEADLINE, "one is down", || {
        gateway.metrics().count("sluice_endpoints", &[("state", "down")]) == 1
    });
    let client = connections(gateway.web());
    let before = bad.requests();
    let former: Vec<_> = (0..3).map(|_| gateway.hand_over()).collect();
    client.stop("new connections");
    drop(former);
    assert_eq!(bad.requests(), before);
}

#[test]
fn a_process_goes_on_alone_when_the_one_that_hands_over_dies() {
    let (endpoint, gate) = (Endpoint::start("c1"), Gate::default());
    let probed = probed(&gate);
    let mut gateway = Gateway::start(&stopping_late(&endpoint, &probed));
    let mut successor = gateway.successor();
    await_no_registry(&gateway);
    gateway.kill();
    // The sockets are open all the time: who connects now is served as soon as the process is ready.
    let mut waiting = gateway.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(successor.exited(), None);
    gate.open();
    drop(gateway.follow(successor));
    assert_eq!(waiting.receive().status, 200);
    assert_goes_on(&gateway, gateway.pid());
    assert_eq!(gateway.metrics().count("sluice_draining_processes", &[]), 0);
    // And hands over in turn.
    let mut former = gateway.hand_over();
    assert_eq!(gateway.metrics().count("sluice_generation", &[]), 3);
    drop(waiting);
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_process_that_is_stopped_meanwhile_stops_and_says_so() {
    let (endpoint, gate) = (Endpoint::start("c1"), Gate::default());
    let probed = probed(&gate);
    let mut gateway = Gateway::start(&stopping_late(&endpoint, &probed));
    let mut successor = gateway.successor();
    await_no_registry(&gateway);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    gate.open();
    // It was told no, and does not take what it was not given.
    assert_eq!(successor.wait(DEADLINE).code(), Some(1));
    assert!(gateway.output().contains("this process is stopping"), "{}", gateway.output());
}

#[test]
fn only_one_takes_over_at_a_time_and_files_wait_meanwhile() {
    let (endpoint, gate) = (Endpoint::start("c1"), Gate::default());
    let probed = probed(&gate);
    let config = stopping_late(&endpoint, &probed);
    let mut gateway = Gateway::start(&config);
    let mut successor = gateway.successor();
    await_no_registry(&gateway);
    let mut other: Process = gateway.successor();
    assert_eq!(other.wait(DEADLINE).code(), Some(1));
    assert!(gateway.output().contains("another hand-over is under way"), "{}", gateway.output());
    gateway.put_config(&config.clone().listener("more", &[r#"protocol = "http""#]));
    gateway.signal(Signal::HUP);
    eventually(DEADLINE, "it is heard", || gateway.output().contains("the files are read again after it"));
    successor.kill();
    eventually(DEADLINE, "the files are read", || gateway.output().contains("configuration in force"));
    assert!(gateway.reload());
    let more = gateway.listener("more");
    assert_eq!(tests::RawClient::connect(more).get("a", "/").status, 200);
    gate.open();
    let _former = gateway.hand_over();
    assert_eq!(tests::RawClient::connect(more).get("a", "/").status, 200);
}

#[test]
fn where_nobody_serves_it_is_an_ordinary_start_and_where_somebody_does_none() {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).handover();
    let mut gateway = Gateway::start_as(&config, |mut command| {
        command.arg("--takeover");
        command
    });
    assert_eq!(gateway.metrics().count("sluice_generation", &[]), 1);
    let mut second = gateway.intruder();
    assert_eq!(second.wait(DEADLINE).code(), Some(1));
    assert!(gateway.output().contains("a running gateway answers there"), "{}", gateway.output());
    assert_goes_on(&gateway, gateway.pid());
    // What a killed process leaves is replaced.
    gateway.kill();
    let socket = gateway.folder().join("gw.sock");
    assert!(socket.exists());
    let again = gateway.successor();
    drop(gateway.follow(again));
    assert_goes_on(&gateway, gateway.pid());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    assert!(!fs::exists(&socket).expect("the folder is ours"));
}
