//! Whatever else connects to the hand-over socket.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::{Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::{assert_goes_on, failures};

/// Speaks the protocol by hand.
struct Peer(UnixStream);

impl Peer {
    #[track_caller]
    fn connect(gateway: &Gateway) -> Self {
        let stream = UnixStream::connect(gateway.folder().join("gw.sock")).expect("the gateway listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
        Self(stream)
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        let head = [&b"SLUH"[..], &(body.len() as u32).to_be_bytes()].concat();
        self.0.write_all(&[&head[..], body.as_bytes()].concat()).expect("the gateway reads");
    }

    /// The next message, its descriptors left alone; `None` at the end.
    fn receive(&mut self) -> Option<Value> {
        let mut head = [0; 8];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).ok()?;
        serde_json::from_slice(&body).ok()
    }

    fn hello(&mut self, wants: &str, protocol: u32) {
        self.send(&json!({ "type": "hello", "protocol": protocol, "version": "test", "wants": wants }));
    }

    #[track_caller]
    fn expect(&mut self, kind: &str) -> Value {
        let message = self.receive().expect("a message comes");
        assert_eq!(message["type"], kind, "{message}");
        message
    }
}

fn gateway() -> (Endpoint, Gateway) {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).handover());
    (endpoint, gateway)
}

#[test]
fn what_is_no_hand_over_is_dropped() {
    let (_endpoint, gateway) = gateway();
    let too_long = [&b"SLUH"[..], &u32::MAX.to_be_bytes()].concat();
    let no_json = [&b"SLUH"[..], &3_u32.to_be_bytes(), b"{{{"].concat();
    let out_of_turn = [&b"SLUH"[..], &16_u32.to_be_bytes(), br#"{"type":"yours"}"#].concat();
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &too_long, &no_json, &out_of_turn] {
        let mut peer = Peer::connect(&gateway);
        peer.0.write_all(bytes).expect("the gateway reads");
        peer.0.shutdown(Shutdown::Write).expect("the socket is ours");
        assert_eq!(peer.receive(), None);
    }
    let mut peer = Peer::connect(&gateway);
    peer.hello("status", 1);
    assert_eq!(peer.expect("status")["pid"], gateway.pid());
    assert_eq!(failures(&gateway), 0);
    assert_goes_on(&gateway, gateway.pid());
}

#[test]
fn a_peer_that_leaves_after_any_step_changes_nothing() {
    let (_endpoint, mut gateway) = gateway();
    for last in ["hello", "welcome", "sockets", "release", "released", "again", "serving"] {
        let before = failures(&gateway);
        let mut peer = Peer::connect(&gateway);
        peer.hello("takeover", 1);
        if last != "hello" {
            let welcome = peer.expect("welcome");
            assert_eq!(welcome["pid"], gateway.pid());
        }
        if !["hello", "welcome"].contains(&last) {
            // Two workers' sockets, the admin listener's, and this one's.
            assert_eq!(peer.expect("sockets")["count"], 4);
        }
        if ["release", "released", "again"].contains(&last) {
            peer.send(&json!({ "type": "release_registry" }));
        }
        if ["released", "again"].contains(&last) {
            peer.expect("registry_released");
            assert_eq!(gateway.metrics().count("sluice_registry_connected", &[]), 0);
        }
        if last == "again" {
            peer.send(&json!({ "type": "hello", "protocol": 1, "version": "", "wants": "takeover" }));
            assert_eq!(peer.expect("refused")["why"], "it said hello, out of turn");
        }
        if last == "serving" {
            // It cannot be told any more that the gateway is its own.
            peer.0.shutdown(Shutdown::Read).expect("the socket is ours");
            peer.send(&json!({ "type": "serving" }));
        }
        if last != "serving" {
            drop(peer);
        }
        eventually(DEADLINE, "the failure is counted", || failures(&gateway) == before + 1);
        assert_goes_on(&gateway, gateway.pid());
    }
    drop(gateway.hand_over());
}

#[test]
fn another_protocol_is_refused_by_its_number() {
    let (_endpoint, gateway) = gateway();
    let mut peer = Peer::connect(&gateway);
    peer.hello("takeover", 2);
    let why = peer.expect("refused")["why"].to_string();
    assert!(why.contains("protocol 2, and we speak 1"), "{why}");
    assert_goes_on(&gateway, gateway.pid());
}
