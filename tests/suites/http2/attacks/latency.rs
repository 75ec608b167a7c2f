//! What an honest client waits while others attack. A measurement: it prints, and asserts only that the
//! honest client is served.
//!
//! The gateway has one worker: all attackers are at the same one as the honest client. (Two workers on one core would
//! take turns by the kernel's slices of milliseconds, which workers with a core each do not.) It shares a core with the
//! honest client and the endpoint, who come before it; all three run in real time where that is allowed, so that nothing
//! else on the machine has a part in it. The attackers are on the other core, with what the kernel
//! does for them: a socket whose queue is full costs its sender milliseconds in which nobody else has that core, real time
//! or not. And they are a process of their own: threads of one process wait for each other where its memory changes. What they
//! still take from the honest client shows in a control, in which they attack somebody who accepts, reads nothing and resets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;
use tests::{Config, Endpoint as Http1Endpoint, Gateway, Program, RawClient};

use super::{ATTACKERS, FLOODS};

/// Without an attack, and in the control.
const QUIET: Duration = Duration::from_secs(1);
/// Its beginning is the worst of it, and then its attackers come back.
const ATTACK: Duration = Duration::from_secs(2);
/// Of each flood, every time from new addresses; what counts is the median over them. A kernel that runs something else
/// to its end holds up whoever it likes, real time or not, and does so in the control too.
const ROUNDS: u8 = 5;
/// Between two requests of the honest client, whatever became of the ones before.
const PACE: Duration = Duration::from_millis(1);
/// Connections that ask in turn.
const CONNECTIONS: usize = 4;
/// For which the control keeps an attacker waiting, as the gateway does.
const HELD: Duration = Duration::from_secs(1);

const MEASURED: usize = 0;
const ATTACKING: usize = 1;

/// Binds this thread, and all threads and processes that it starts, to a core.
fn place(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("the machine has two cores");
}

/// What some seconds were like: microseconds at the median and at the 99th percentile.
fn summary(mut waits: Vec<Duration>) -> [u128; 2] {
    waits.sort_unstable();
    [50, 99].map(|hundredths| waits[(waits.len() - 1) * hundredths / 100].as_micros())
}

/// Of rounds: the median of medians, the median of 99th percentiles, and all of those.
fn over(mut rounds: Vec<[u128; 2]>) -> (u128, u128, Vec<u128>) {
    let all = rounds.iter().map(|round| round[1]).collect();
    let middle = rounds.len() / 2;
    let [median, high] = [0, 1].map(|at| {
        rounds.sort_unstable_by_key(|round| round[at]);
        rounds[middle][at]
    });
    (median, high, all)
}

/// Asks at a steady pace. A request that is late because the one before was waits since it was due.
fn ask(clients: &mut [RawClient], length: Duration) -> Vec<Duration> {
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
    waits.collect()
}

/// What [`attackers`] are told: the flood, where they come from, and whom they attack. Nobody: who accepts, reads
/// nothing and resets.
const ORDERS: &str = "SLUICE_ATTACK";
const READY: &str = "attackers are ready";
const GO: &str = "go";

/// What honest clients wait while ten others, from the addresses of this `network` alone, attack `target`; whoever is cut
/// off comes back at once.
fn ask_during(
    flood: usize,
    network: [u8; 3],
    target: Option<SocketAddr>,
    clients: &mut [RawClient],
    length: Duration,
) -> Vec<Duration> {
    let [a, b, c] = network;
    let target = target.map_or("nobody".to_owned(), |target| target.to_string());
    let this = std::env::current_exe().expect("a test knows its file");
    let mut command = Command::new("chrt");
    command.args(["--other", "0", "taskset", "--cpu-list", &ATTACKING.to_string()]).arg(this);
    command.args(["--exact", "attacks::latency::attackers", "--ignored", "--nocapture"]);
    command.env(ORDERS, format!("{flood} {a}.{b}.{c}.0 {target}"));
    let mut attackers = Program::start(&mut command);
    attackers.wait_for_line("the attackers are ready", |line| line.ends_with(READY).then_some(()));
    attackers.say(GO);
    let waits = ask(clients, length);
    attackers.kill();
    waits
}

/// No test: the process that [`ask_during`] starts.
#[test]
#[ignore = "part of latency_during_every_flood"]
fn attackers() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split(' ').collect();
    let [flood, network, target] = orders[..] else { panic!("three orders") };
    let flood = &FLOODS[flood.parse::<usize>().expect("a number")];
    let [a, b, c, _] = network.parse::<Ipv4Addr>().expect("an address").octets();
    let target = target.parse().unwrap_or_else(|_| sink());
    println!("\n{READY}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the other process speaks");
    assert_eq!(line.trim(), GO);
    thread::scope(|scope| {
        for number in 1..=ATTACKERS as u8 {
            let attacker = IpAddr::from([a, b, c, number]);
            scope.spawn(move || while flood.run_from(attacker, target).is_ok() {});
        }
    });
}

/// How the kernel chooses whose turn it is, for this thread and all threads and processes that it starts. Whether that
/// is allowed.
fn schedule(policy: &str, priority: &str) -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args([policy, "--pid", priority, &thread]).stderr(Stdio::null());
    command.status().expect("util-linux is installed").success()
}

/// Before anybody who is not, whatever else the machine does; the higher of two `priority`s first. Only root may.
fn be_first(priority: &str) {
    schedule("--fifo", priority);
}

/// Accepts, reads nothing and resets.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
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
#[ignore = "a measurement of minutes: SLUICE_LONG=1 with --ignored; SLUICE_FLOOD names one"]
fn latency_during_every_flood() {
    if std::env::var_os("SLUICE_LONG").is_none() {
        return;
    }
    place(MEASURED);
    be_first("2");
    let endpoint = Http1Endpoint::start("c1");
    be_first("1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).workers(1));
    be_first("2");
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    let only = std::env::var("SLUICE_FLOOD").ok();
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| name == only);
    for (number, flood) in FLOODS.iter().enumerate().filter(|(_, flood)| is_wanted(flood.name)) {
        let before = work(&gateway);
        let (mut quiet, mut control, mut attack) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let network = [127, 200 + round, number as u8];
            quiet.push(summary(ask(&mut clients, QUIET)));
            control.push(summary(ask_during(number, network, None, &mut clients, QUIET)));
            attack.push(summary(ask_during(number, network, Some(gateway.web()), &mut clients, ATTACK)));
        }
        let after = work(&gateway);
        let (seconds, cut, refused) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        let (quiet, control, attack) = (over(quiet), over(control), over(attack));
        println!(
            "{{\"flood\": \"{}\", \"quiet_us\": [{}, {}], \"control_us\": [{}, {}], \"attack_us\": [{}, {}], \
             \"quiet_rounds\": {:?}, \"control_rounds\": {:?}, \"attack_rounds\": {:?}, \
             \"gateway_seconds\": {seconds:.2}, \"cut_off\": {cut}, \"refused\": {refused}}}",
            flood.name,
            quiet.0,
            quiet.1,
            control.0,
            control.1,
            attack.0,
            attack.1,
            quiet.2,
            control.2,
            attack.2,
        );
    }
}
