//! Clients that ask without pause for breath and count what goes wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::DEADLINE;
use crate::message::Response;
use crate::wire::Wire;

/// Between two requests of one connection. Leaves the rest of the machine (the gateway's control plane,
/// a JVM) enough of two cores; it orders nothing.
const PACE: Duration = Duration::from_millis(2);
/// Enough to see a pattern, few enough to read.
const MAX_EXAMPLES: usize = 5;

/// Keepalive connections, each with one GET after the other.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    host: String,
    stopped: AtomicBool,
    ok: AtomicU64,
    failed: AtomicU64,
    closed: AtomicU64,
    examples: Mutex<Vec<String>>,
}

#[derive(Debug)]
pub struct LoadReport {
    pub ok: u64,
    /// Requests without a complete 200.
    pub failed: u64,
    /// Connections that the gateway closed, or announced to.
    pub closed: u64,
    /// What the first failures were.
    pub examples: Vec<String>,
}

impl Load {
    pub fn start(address: SocketAddr, host: &str, connections: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            host: host.to_owned(),
            stopped: AtomicBool::new(false),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            examples: Mutex::default(),
        });
        let threads = (0..connections).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.run())
        });
        Self { threads: threads.collect(), shared }
    }

    /// Requests answered with 200 so far.
    pub fn ok(&self) -> u64 {
        self.shared.ok.load(Ordering::Acquire)
    }

    /// Lets every request that is under way end.
    ///
    /// # Panics
    /// When one of the clients did.
    pub fn stop(self) -> LoadReport {
        self.shared.stopped.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().expect("a load client does not panic");
        }
        LoadReport {
            ok: self.shared.ok.load(Ordering::Acquire),
            failed: self.shared.failed.load(Ordering::Acquire),
            closed: self.shared.closed.load(Ordering::Acquire),
            examples: std::mem::take(
                &mut *self.shared.examples.lock().unwrap_or_else(PoisonError::into_inner),
            ),
        }
    }
}

impl LoadReport {
    /// # Panics
    /// Unless every request was answered with 200 on a connection that stayed.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        assert!(self.ok > 0, "no request was answered: {self:?}");
        assert_eq!((self.failed, self.closed), (0, 0), "{self:?}");
    }
}

impl Shared {
    fn run(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            if let Err(error) = self.connection() {
                self.fail(&format!("{error}"));
            }
        }
    }

    /// Until the load is stopped, the gateway closes the connection, or something fails.
    fn connection(&self) -> io::Result<()> {
        let mut wire = Wire::connect(self.address, DEADLINE)?;
        let request = format!("GET /load HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        while !self.stopped.load(Ordering::Acquire) {
            let response = wire
                .send(request.as_bytes())
                .and_then(|()| Response::read(&mut wire, "GET"))
                .inspect_err(|_| self.count_closed())?;
            match response.status {
                200 => {
                    self.ok.fetch_add(1, Ordering::AcqRel);
                }
                status => self.fail(&format!("{status} {:?}", response.reason())),
            }
            if response.fields.lists("connection", "close") {
                self.count_closed();
                return Ok(());
            }
            thread::sleep(PACE);
        }
        Ok(())
    }

    fn count_closed(&self) {
        self.closed.fetch_add(1, Ordering::AcqRel);
    }

    fn fail(&self, what: &str) {
        self.failed.fetch_add(1, Ordering::AcqRel);
        let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        if examples.len() < MAX_EXAMPLES {
            examples.push(what.to_owned());
        }
    }
}
