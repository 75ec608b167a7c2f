//! What an honest client waits while others attack. A measurement: it prints, and asserts only that the
//! honest client is served.
//!
//! The gateway, with two workers, has a core to itself: the two share it, so that a flood on one of them is felt by
//! the other's clients too, and nobody else's work is taken for the gateway's. The other core has the honest client,
//! the endpoint and the attackers, who have all that the first two leave: those run in real time where that is
//! allowed. What attackers still take
//! from the honest client shows in a control, in which they attack somebody who accepts, reads nothing and resets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;
use tests::{Endpoint as Http1Endpoint, Gateway, RawClient};

use super::{ATTACKERS, FLOODS, Flood};
use crate::before_http1;

/// Without an attack, and in the control.
const QUIET: Duration = Duration::from_secs(1);
/// Its beginning is the worst of it, and then its attackers come back.
const ATTACK: Duration = Duration::from_secs(5);
/// Between two requests of the honest client, whatever became of the ones before.
const PACE: Duration = Duration::from_millis(1);
const SECOND: usize = 1_000;
/// Connections that ask in turn, so that both workers are asked.
const CONNECTIONS: usize = 4;
/// For which the control keeps an attacker waiting, as the gateway does.
const HELD: Duration = Duration::from_secs(1);

const GATEWAY: usize = 0;
const OTHERS: usize = 1;

/// Binds this thread, and all threads and processes that it starts, to a core.
fn place(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("the machine has two cores");
}

/// What one second, or several, were like.
struct Waits(Vec<Duration>);

impl Waits {
    fn percentile(waits: &[Duration], hundredths: usize) -> u128 {
        let mut sorted = waits.to_vec();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * hundredths / 100].as_micros()
    }

    /// In microseconds: the median, the 99th percentile, that of the worst second, and the longest.
    fn summary(&self) -> [u128; 4] {
        let Self(waits) = self;
        let worst = waits.chunks(SECOND).map(|second| Self::percentile(second, 99)).max().unwrap_or_default();
        [Self::percentile(waits, 50), Self::percentile(waits, 99), worst, Self::percentile(waits, 100)]
    }
}

/// Asks at a steady pace. A request that is late because the one before was waits since it was due.
fn ask(clients: &mut [RawClient], length: Duration) -> Waits {
    let start = Instant::now();
    let numbers =
        (0..(length.as_millis() / PACE.as_millis()) as u32).take_while(|_| start.elapsed() < length);
    let waits = numbers.map(|number| {
        let due = PACE * number;
        let early = due.saturating_sub(start.elapsed());
        thread::sleep(early);
        let asked = if early.is_zero() { due } else { start.elapsed() };
        let client = &mut clients[number as usize % CONNECTIONS];
        assert_eq!(client.get("a", "/").status, 200);
        start.elapsed() - asked
    });
    Waits(waits.collect())
}

/// What honest clients wait while ten others, from addresses of this `round` alone, attack `target`; whoever is cut
/// off comes back at once.
fn ask_during(
    flood: &Flood,
    round: u8,
    target: SocketAddr,
    clients: &mut [RawClient],
    length: Duration,
) -> Waits {
    let (is_over, are_ready) = (AtomicBool::new(false), Barrier::new(ATTACKERS + 1));
    thread::scope(|scope| {
        let (is_over, are_ready) = (&is_over, &are_ready);
        for number in 0..ATTACKERS as u8 {
            let attacker = IpAddr::from([127, 200, round, number + 1]);
            scope.spawn(move || {
                be_last(is_root());
                are_ready.wait();
                while flood.run_from(attacker, target).is_ok() && !is_over.load(Ordering::Acquire) {}
            });
        }
        are_ready.wait();
        let waits = ask(clients, length);
        is_over.store(true, Ordering::Release);
        waits
    })
}

/// How the kernel chooses whose turn it is, for this thread and all threads and processes that it starts. Whether that
/// is allowed.
fn schedule(policy: &str, priority: &str) -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args([policy, "--pid", priority, &thread]).stderr(Stdio::null());
    command.status().expect("util-linux is installed").success()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// For what is measured: before anybody else, whatever else the machine does. Only root may.
fn be_first() {
    schedule("--fifo", "1");
}

fn be_ordinary() {
    assert!(schedule("--other", "0"), "anybody may be as all are");
}

/// For attackers: after what is measured. Being nice is not enough, since who is nice keeps a core up to the end of
/// his slice; so where nobody may be first they are idle.
fn be_last(is_somebody_first: bool) {
    let (policy, priority) = if is_somebody_first { ("--other", "0") } else { ("--idle", "0") };
    assert!(schedule(policy, priority), "anybody may be {policy}");
}

/// Accepts, reads nothing and resets.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        be_last(is_root());
        let hold = |stream: TcpStream| {
            thread::spawn(move || {
                thread::sleep(HELD);
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
            });
        };
        listener.incoming().flatten().for_each(hold);
    });
    address
}

/// What the gateway has done so far: processor seconds, connections cut off, connections refused.
fn work(gateway: &Gateway) -> (f64, u64, u64) {
    let metrics = gateway.metrics();
    let refused = metrics.count("sluice_connections_refused_total", &[("reason", "client_penalty")]);
    (gateway.processor_seconds(), metrics.count("sluice_http2_floods_total", &[]), refused)
}

#[test]
#[ignore = "a measurement of minutes: SLUICE_LONG=1 with --ignored"]
fn latency_during_every_flood() {
    if std::env::var_os("SLUICE_LONG").is_none() {
        return;
    }
    be_first();
    place(OTHERS);
    let endpoint = Http1Endpoint::start("c1");
    let sink = sink();
    // In real time one worker would run for as long as it has something to do, and the other one wait.
    be_ordinary();
    place(GATEWAY);
    let gateway = before_http1(endpoint.address());
    place(OTHERS);
    be_first();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    for (round, flood) in (0..).zip(FLOODS) {
        let quiet = ask(&mut clients, QUIET).summary();
        let control = ask_during(flood, round, sink, &mut clients, QUIET).summary();
        let before = work(&gateway);
        let attack = ask_during(flood, round, gateway.web(), &mut clients, ATTACK).summary();
        let after = work(&gateway);
        let (seconds, cut, refused) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        println!(
            "{{\"flood\": \"{}\", \"quiet_us\": {quiet:?}, \"control_us\": {control:?}, \"attack_us\": {attack:?}, \
             \"gateway_seconds\": {seconds:.2}, \"cut_off\": {cut}, \"refused\": {refused}}}",
            flood.name,
        );
    }
}
