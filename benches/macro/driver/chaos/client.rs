//! Clients: each asks one gateway for one app after the other, and looks at who answers.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;
use tests::{DEADLINE, Response, Wire};

use super::fleet::{Fleet, Found};
use super::journal::Journal;

/// Between two requests of one client. The load is there to notice what is lost, not to be a load: what is retried stays
/// within the budget of retries, and the machine has time for everything else.
const PACE: Duration = Duration::from_millis(15);
/// Before a client that was failed asks again.
const SHOCK: Duration = Duration::from_millis(20);

pub struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(
        fleet: &Fleet,
        each: usize,
        hosts: Vec<(String, String)>,
        rng: &mut Rng,
        journal: &Arc<Journal>,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let hosts = Arc::new(hosts);
        let all = fleet
            .found()
            .into_iter()
            .enumerate()
            .flat_map(|(at, web)| (0..each).map(move |_| (at, web.clone())));
        let threads = all.map(|(gateway, web)| {
            let client = Client {
                gateway,
                web,
                hosts: Arc::clone(&hosts),
                rng: rng.fork(),
                journal: Arc::clone(journal),
                over: Arc::clone(&over),
            };
            thread::spawn(move || client.run())
        });
        Self { threads: threads.collect(), over }
    }

    /// # Panics
    /// When one of them did.
    pub fn stop(self) {
        self.over.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a client does not panic"));
    }
}

struct Client {
    gateway: usize,
    web: Found,
    hosts: Arc<Vec<(String, String)>>,
    rng: Rng,
    journal: Arc<Journal>,
    over: Arc<AtomicBool>,
}

impl Client {
    fn run(mut self) {
        while !self.is_over() {
            let since = self.journal.elapsed();
            if let Err(error) = self.connection() {
                self.journal.lost(self.gateway, since, error.to_string());
                thread::sleep(SHOCK);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn address(&self) -> SocketAddr {
        *self.web.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the end, or the connection's.
    fn connection(&mut self) -> io::Result<()> {
        let mut wire = Wire::connect(self.address(), DEADLINE)?;
        while !self.is_over() {
            let (host, begins) = self.hosts[self.rng.usize(..self.hosts.len())].clone();
            let since = self.journal.elapsed();
            let asked = wire.send(format!("GET /chaos HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            match asked.and_then(|()| Response::read(&mut wire, "GET")) {
                Ok(response) if response.status == 200 && response.text().starts_with(&begins) => {
                    self.journal.served();
                }
                Ok(response) => {
                    let (status, reason, text) = (response.status, response.reason(), response.text());
                    self.journal.lost(self.gateway, since, format!("{host}: {status} {reason:?} {text:?}"));
                    if response.fields.lists("connection", "close") {
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.journal.lost(self.gateway, since, format!("{host}: {error}"));
                    return Ok(());
                }
            }
            thread::sleep(PACE);
        }
        Ok(())
    }
}
