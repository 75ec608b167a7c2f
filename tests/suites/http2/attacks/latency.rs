//! What an honest client waits while others attack. A measurement: it prints, and asserts only that the
//! honest client is served.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::{Endpoint as Http1Endpoint, Gateway};

use super::{FLOODS, Flood};
use crate::before_http1;

const ATTACKERS: u8 = 4;
/// Without an attack, and while one runs: its beginning is the worst of it, and then its attackers come back.
const BEFORE: Duration = Duration::from_secs(1);
const DURING: Duration = Duration::from_secs(5);

/// The 50th and the 99th percentile of requests one after the other.
fn percentiles(gateway: &Gateway, length: Duration) -> (Duration, Duration) {
    let mut client = gateway.connect();
    let mut waits = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length {
        let asked = Instant::now();
        assert_eq!(client.get("a", "/").status, 200);
        waits.push(asked.elapsed());
    }
    waits.sort_unstable();
    (waits[waits.len() / 2], waits[waits.len() * 99 / 100])
}

fn during(gateway: &Gateway, flood: &Flood) -> (Duration, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        for number in 0..ATTACKERS {
            let attacker = IpAddr::from([127, 200, 0, number + 1]);
            // Whoever is cut off comes back at once.
            scope.spawn(move || {
                while flood.run_from(attacker, gateway).is_ok() && !is_over.load(Ordering::Acquire) {}
            });
        }
        let measured = percentiles(gateway, DURING);
        is_over.store(true, Ordering::Release);
        measured
    })
}

#[test]
#[ignore = "a measurement of minutes: SLUICE_LONG=1 with --ignored"]
fn latency_during_every_flood() {
    if std::env::var_os("SLUICE_LONG").is_none() {
        return;
    }
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    for flood in FLOODS {
        let (before, during) = (percentiles(&gateway, BEFORE), during(&gateway, flood));
        println!(
            "{}: p50 {:?} -> {:?}, p99 {:?} -> {:?}",
            flood.name, before.0, during.0, before.1, during.1
        );
    }
}
