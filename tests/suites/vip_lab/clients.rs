//! What clients notice that keep a connection and open another one when it breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::{DEADLINE, Host, Response, Wire, eventually};

use crate::faults::{Fault, round};
use crate::lab::{Kind, Lab, RAW_PORT, vip};

/// Before it is asked once more: as curl does it, and longer than a failover. A host whose gateway and guard are both dead refuses
/// connections until the lease ends.
const PAUSE: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n";

/// Asks without end on one connection for as long as it lasts. What gets no answer is asked once more, on a new one.
struct Client {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    answers: AtomicU64,
    retries: AtomicU64,
    /// Twice in a row without an answer.
    failures: AtomicU64,
    stop: AtomicBool,
}

impl Client {
    fn start(host: Arc<Host>, address: SocketAddr) -> Self {
        let told = Arc::new(Told::default());
        let shared = told.clone();
        let thread = std::thread::spawn(move || {
            host.run(|| {
                let mut wire = None;
                while !shared.stop.load(Ordering::Relaxed) {
                    ask(&mut wire, address, &shared);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        Self { told, thread: Some(thread) }
    }

    fn count(&self, of: impl Fn(&Told) -> &AtomicU64) -> u64 {
        of(&self.told).load(Ordering::Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().ok());
    }
}

fn ask(wire: &mut Option<Wire>, address: SocketAddr, told: &Told) {
    if exchange(wire, address).is_err() {
        told.retries.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
        if exchange(wire, address).is_err() {
            told.failures.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    told.answers.fetch_add(1, Ordering::Relaxed);
}

/// On the connection that there is, or a new one; none is left where it fails.
fn exchange(wire: &mut Option<Wire>, address: SocketAddr) -> io::Result<()> {
    let mut open = wire.take().map_or_else(|| Wire::connect(address, DEADLINE), Ok)?;
    open.send(REQUEST)?;
    let answer = Response::read(&mut open, "GET")?;
    if answer.status != 200 {
        return Err(io::Error::other(answer.status.to_string()));
    }
    let ends = answer.fields.get("connection").is_some_and(|field| field.eq_ignore_ascii_case("close"));
    *wire = Some(open).filter(|_| !ends);
    Ok(())
}

#[test]
fn clients_that_reconnect_see_a_failover_as_one_retry() {
    let Some(mut lab) = Lab::start(Kind::ZooKeeper(1), &[0], &[]) else { return };
    lab.settled(0);
    for fault in Fault::ALL {
        let clients = [80, RAW_PORT]
            .map(|port| (port, Client::start(lab.client.clone(), SocketAddr::from((vip(0), port)))));
        let answered = |more: u64| {
            let wanted = clients.each_ref().map(|(_, client)| client.count(|told| &told.answers) + more);
            eventually(DEADLINE * 2, "the clients are answered", || {
                let mut all = clients.iter().zip(wanted);
                all.all(|((_, client), wanted)| client.count(|told| &told.answers) >= wanted)
            });
        };
        answered(10);
        let (_, successions) = round(&mut lab, fault);
        answered(10);
        for (port, client) in &clients {
            let (retries, failures) =
                (client.count(|told| &told.retries), client.count(|told| &told.failures));
            println!("{}, port {port}: {retries} retries", fault.name());
            assert_eq!(failures, 0, "{}, port {port}: the retry failed", fault.name());
            // A gateway that is told to end says so, where it speaks HTTP.
            let least = u64::from(fault != Fault::Terminate);
            assert!(
                (least..=successions).contains(&retries),
                "{}, port {port}: {retries} retries in {successions} successions",
                fault.name()
            );
        }
    }
}
