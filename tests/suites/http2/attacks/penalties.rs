//! Whoever was cut off for flooding stays out for a while, and nobody else does.

use std::net::{IpAddr, SocketAddr};

use tests::{Config, DEADLINE, Endpoint as Http1Endpoint, Gateway, Response, Wire, eventually};

use super::FLOODS;
use crate::before_http1;
use crate::raw::{ENHANCE_YOUR_CALM, HEADERS, PING, Raw, frame};

/// Of which one alone learns of a flood by itself, and the others from it.
const WORKERS: usize = 4;

fn is_served(source: IpAddr, gateway: SocketAddr) -> bool {
    let Ok(mut wire) = Wire::connect_from(source, gateway, DEADLINE) else { return false };
    let sent = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    sent.is_ok() && Response::read(&mut wire, "GET").is_ok_and(|response| response.status == 200)
}

fn refused(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_connections_refused_total", &[("reason", "client_penalty")])
}

#[test]
fn who_comes_back_after_a_flood_is_kept_out_for_a_while_and_others_are_not() {
    let endpoint = Http1Endpoint::start("c1");
    let config = Config::with_workers(WORKERS).app(&tests::App::everything(endpoint.address()));
    let gateway = Gateway::start(&config);
    let flood = FLOODS.iter().find(|flood| flood.name == "PING").expect("it is there");
    let attacker = IpAddr::from([127, 9, 9, 9]);
    flood.run_from(attacker, gateway.web()).expect("it is cut off");
    assert!(!is_served(attacker, gateway.web()), "it is back at once");
    assert_eq!(refused(&gateway), 1);
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "it may try again", || is_served(attacker, gateway.web()));
}

#[test]
fn a_proxy_that_we_trust_is_not_kept_out_for_one_of_its_clients() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).trusting("127.9.0.0/16"));
    let flood = FLOODS.iter().find(|flood| flood.name == "PING").expect("it is there");
    let proxy = IpAddr::from([127, 9, 9, 9]);
    for _ in 0..4 {
        flood.run_from(proxy, gateway.web()).expect("it is cut off");
        assert!(is_served(proxy, gateway.web()));
    }
    assert_eq!(refused(&gateway), 0);
}

/// Attackers that do nothing but come back get nowhere: after the first time most of them wait.
#[test]
fn attackers_that_come_back_at_once_are_mostly_refused() {
    const RETURNS: usize = 12;
    let endpoint = Http1Endpoint::start("c1");
    let config = Config::with_workers(WORKERS).app(&tests::App::everything(endpoint.address()));
    let gateway = Gateway::start(&config);
    let flood = FLOODS.iter().find(|flood| flood.name == "rapid reset").expect("it is there");
    let attacker = IpAddr::from([127, 9, 9, 8]);
    let mut honest = gateway.connect();
    for _ in 0..RETURNS {
        flood.run_from(attacker, gateway.web()).expect("it is cut off");
        assert_eq!(honest.get("a", "/").status, 200);
    }
    let floods = gateway.metrics().count("sluice_http2_floods_total", &[]);
    assert!(floods < RETURNS as u64 / 2 && refused(&gateway) > RETURNS as u64 / 2, "{floods} were let in");
}

fn is_answered(client: &mut Raw, stream: u32) -> bool {
    client.send_get(stream).expect("the gateway reads");
    let answer = client.await_frame("answer", |frame| frame.kind == HEADERS && frame.stream == stream);
    answer.status() == Some(200)
}

/// One address, several connections: what has already made as much noise as a flood's is part of the flood, and what
/// behaves may be somebody else's.
#[test]
fn with_one_connection_others_of_its_address_are_cut_off_that_flood_too() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let flood = FLOODS.iter().find(|flood| flood.name == "PING").expect("it is there");
    let address = IpAddr::from([127, 9, 9, 7]);
    // Where the machine was too slow for the address still to be out, it is out for longer the next time.
    eventually(DEADLINE, "both are cut off", || {
        if !is_served(address, gateway.web()) {
            return false;
        }
        let (mut noisy, mut quiet) =
            (Raw::connect_from(address, gateway.web()), Raw::connect_from(address, gateway.web()));
        assert!(is_answered(&mut quiet, 1));
        let ping = frame(PING, 0, 0, &[7; 8]);
        // Within what a connection may spend.
        noisy.send(&ping.repeat(600)).expect("the gateway reads");
        assert!(is_answered(&mut noisy, 1), "it was cut off by itself");
        flood.run_from(address, gateway.web()).expect("it is cut off");
        let is_gone = noisy.send(&ping).is_err() || {
            noisy.send_get(3).ok();
            let mut code = None;
            while let Ok(Some(frame)) = noisy.receive() {
                if frame.kind == crate::raw::GOAWAY {
                    code = Some(frame.code());
                }
                if frame.kind == HEADERS {
                    break;
                }
            }
            code == Some(ENHANCE_YOUR_CALM)
        };
        assert!(is_answered(&mut quiet, 3), "a connection that behaves goes on");
        is_gone
    });
}

/// No flood, and each connection ends at its first frame: what is left of an attack is to come back.
#[test]
fn who_breaks_one_connection_after_the_other_is_kept_out_too() {
    const RETURNS: usize = 40;
    let endpoint = Http1Endpoint::start("c1");
    let config = Config::with_workers(WORKERS).app(&tests::App::everything(endpoint.address()));
    let gateway = Gateway::start(&config);
    let address = IpAddr::from([127, 9, 9, 6]);
    let a_few = 5;
    for returns in [a_few, RETURNS] {
        for _ in 0..returns {
            let mut client = Raw::connect_from(address, gateway.web());
            // Of the wrong length.
            client.send_frame(PING, 0, 0, &[]).ok();
            client.cut_off_code();
        }
        assert_eq!(refused(&gateway) > 0, returns == RETURNS);
    }
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "it may try again", || is_served(address, gateway.web()));
}
