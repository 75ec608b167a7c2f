//! slowhttptest, in all its modes. It looks itself whether the server is still there for others.

use std::process::Command;
use std::time::Duration;

use tests::{Config, Endpoint, Gateway, Reply, finish};

use crate::{honest_during, is_long};

/// What the slow reader asks for, again and again: more than any socket takes at once.
const BODY: usize = 1 << 20;

fn attack(mode: &[&str]) {
    let endpoint = Endpoint::behaving("c1", |request| match request.target.as_str() {
        "/large" => Reply::ok(vec![b'x'; BODY]),
        _ => Reply::ok("small"),
    });
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let (connections, seconds) = if is_long() { (1_000, 60) } else { (200, 4) };
    let url = format!("http://{}/large", gateway.web());
    let mut command = Command::new("slowhttptest");
    command.args(["-c", &connections.to_string(), "-l", &seconds.to_string(), "-r", "200", "-i", "1"]);
    command.args(["-p", "3", "-u", &url]).args(mode);
    let deadline = Duration::from_secs(4 * seconds + 30);
    let ended = honest_during(&gateway, || finish(&mut command, "", deadline));
    let text = ended.text();
    assert!(text.contains("YES"), "it has not looked: {text}");
    assert!(!text.contains("service available:   NO") && !text.contains("NO\u{1b}"), "{text}");
    assert_eq!(gateway.get("a", "/").status, 200);
}

#[test]
fn slow_headers() {
    attack(&["-H"]);
}

#[test]
fn slow_bodies() {
    attack(&["-B"]);
}

#[test]
fn slow_reading() {
    attack(&["-X", "-w", "64", "-y", "128", "-n", "1", "-z", "32", "-k", "3"]);
}

#[test]
fn ranges() {
    attack(&["-R", "-a", "10", "-b", "3000"]);
}
