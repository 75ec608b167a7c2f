//! The configuration file, read again while the gateway runs.

use std::net::TcpListener;

use rustix::process::Signal;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Load, RawClient, eventually};

use crate::listeners::{HTTP, greeters, listening_lines, with_tcp};

#[test]
fn a_file_with_mistakes_changes_nothing_and_names_them_all() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base.clone().listener("more", HTTP));
    let bad = base.clone().listener("worse", &[r#"protocol = "htpp""#]).gateway(r#"drain_timeot = "1s""#);
    assert!(!gateway.reconfigure(&bad));
    let output = gateway.output();
    for words in [["sluice.toml:", "htpp"], ["sluice.toml:", "drain_timeot"]] {
        assert!(words.iter().all(|word| output.contains(word)), "no {words:?} in {output}");
    }
    assert_eq!(RawClient::connect(gateway.listener("more")).get("a", "/").status, 200);
    assert_eq!(listening_lines(&gateway, "worse"), 0);
    let rejected = gateway.metrics().count("sluice_config_reloads_total", &[("result", "rejected")]);
    assert_eq!(rejected, 1);
    assert!(gateway.reconfigure(&base));
}

#[test]
fn one_listener_that_cannot_be_opened_keeps_all_as_they_are() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base.clone().listener("more", HTTP));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).expect("it is bound");
    let no_files = [r#"protocol = "http""#, r#"tls = { certificates = ["nowhere/*.pem"] }"#];
    let wanted =
        base.clone().listener("good", HTTP).listener_at("bad", &taken.0, HTTP).listener("tls", &no_files);
    assert!(!gateway.reconfigure(&wanted));
    let output = gateway.output();
    for word in ["cannot open listener bad", &taken.0, "cannot open listener tls", "nowhere/*.pem"] {
        assert!(output.contains(word), "no {word:?} in {output}");
    }
    assert_eq!(RawClient::connect(gateway.listener("more")).get("a", "/").status, 200);
    assert_eq!(listening_lines(&gateway, "good"), 0);
    drop(taken);
}

#[test]
fn a_port_of_our_own_that_is_still_held_is_named() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base.clone().listener("narrow", HTTP));
    let narrow = gateway.listener("narrow");
    let wide = base.listener_at("wide", &format!("0.0.0.0:{}", narrow.port()), HTTP);
    assert!(!gateway.reconfigure(&wide));
    let hint = format!("listener narrow holds {narrow}");
    assert!(gateway.output().contains(&hint), "{}", gateway.output());
    assert_eq!(RawClient::connect(narrow).get("a", "/").status, 200);
}

#[test]
fn what_else_is_in_the_file_counts_from_then_on() {
    let (base, _greeters) = greeters();
    let endpoint = Endpoint::start("c1");
    let base = base.app(&App::everything(endpoint.address()));
    let mut gateway = Gateway::start(&with_tcp(&base, "db", "a"));
    let client_of = |gateway: &Gateway| {
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
        assert_eq!(client.receive().status, 200);
        endpoint.last().fields.get("x-forwarded-for").map(str::to_owned)
    };
    assert_eq!(client_of(&gateway).as_deref(), Some("127.0.0.1"));
    let mut tunnel = RawClient::connect(gateway.listener("db"));
    assert_eq!(tunnel.wire.exactly(1).expect("a greeting"), b"a");
    // By default the tunnel would be left alone for longer than any test waits.
    assert!(gateway.reconfigure(&base.trusting("127.0.0.0/8").gateway(r#"drain_timeout = "100ms""#)));
    assert_eq!(client_of(&gateway).as_deref(), Some("192.0.2.7, 127.0.0.1"));
    assert!(tunnel.is_ended());
}

#[test]
fn keys_that_take_a_restart_are_named() {
    let base = Config::new().gateway("drain_timeout = \"9s\"");
    let mut gateway = Gateway::start(&base);
    assert_eq!(gateway.metrics().count("sluice_config_restart_pending", &[]), 0);
    let wanted = Config::new().access_log("access.log", "combined").gateway(r#"drain_delay = "0s""#);
    assert!(gateway.reconfigure(&wanted));
    let output = gateway.output();
    assert!(output.contains("take a restart: gateway.access_log\""), "{output}");
    assert_eq!(gateway.metrics().count("sluice_config_restart_pending", &[]), 1);
    assert!(gateway.reconfigure(&base));
    assert_eq!(gateway.metrics().count("sluice_config_restart_pending", &[]), 0);
}

#[test]
fn a_storm_of_signals_ends_in_the_last_state() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    // An address that no other test is given a port of.
    let gateway = Gateway::start(&base.clone().listener_at("more", "127.0.0.4:0", HTTP));
    let address = gateway.listener("more");
    let at_address = |name: &str| base.clone().listener_at(name, &address.to_string(), HTTP);
    let load = Load::start(gateway.web(), "a", 2);
    // The address is opened, renamed and closed, over and over.
    let states = [base.clone(), at_address("more"), at_address("renamed")];
    for round in 0..100 {
        gateway.put_config(&states[round % states.len()]);
        gateway.signal(Signal::HUP);
    }
    gateway.put_config(&at_address("last"));
    gateway.signal(Signal::HUP);
    let is_open = |name: &str| {
        gateway.metrics().sum("sluice_connections_accepted_total", &[("listener", name)]).is_some()
    };
    eventually(DEADLINE, "the last listener is open and those before it are not", || {
        is_open("last") && !is_open("more") && !is_open("renamed")
    });
    load.stop().assert_undisturbed();
    assert_eq!(RawClient::connect(address).get("a", "/").status, 200);
    let rejected = gateway.metrics().count("sluice_config_reloads_total", &[("result", "rejected")]);
    assert_eq!(rejected, 0, "{}", gateway.output());
}
