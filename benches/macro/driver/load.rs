//! Keepalive connections that ask on a schedule, and remember every answer.
//!
//! The schedule does not wait for the gateway: a request that could not be sent when it was due, because
//! the one before it was still unanswered, is measured from when it was due. A pause therefore costs
//! every request that it delayed, not one per connection.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{DEADLINE, Response, Wire};

use crate::clock::millis;
use crate::distribution::Distribution;

/// Between two attempts to connect again, so that a gateway that is gone yields failures and no storm.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub struct Plan {
    pub address: SocketAddr,
    /// Asked for by the connections in turn.
    pub hosts: Vec<String>,
    pub connections: u32,
    /// Requests per second over all connections.
    pub rate: u32,
}

/// Runs until it is stopped.
pub struct Load {
    began: Instant,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

#[derive(Debug)]
struct Answer {
    /// Since the load began.
    due: Duration,
    took: Duration,
}

#[derive(Debug)]
struct Failure {
    at: Duration,
    what: String,
}

/// What one connection saw, or all of them.
#[derive(Debug, Default)]
struct Tally {
    answers: Vec<Answer>,
    failures: Vec<Failure>,
    /// When the gateway closed the connection, or announced to.
    closed: Vec<Duration>,
}

impl Plan {
    pub fn to_json(&self) -> Value {
        json!({"hosts": self.hosts, "connections": self.connections, "requests_per_second": self.rate})
    }

    pub fn start(&self) -> Load {
        let (began, stopped) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let period = Duration::from_secs(1) * self.connections / self.rate;
        let threads = (0..self.connections).map(|number| {
            let host = &self.hosts[number as usize % self.hosts.len()];
            let client = Client {
                address: self.address,
                request: format!("GET /load HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                began,
                due: period * number / self.connections,
                period,
                stopped: Arc::clone(&stopped),
                tally: Tally::default(),
            };
            thread::spawn(move || client.run())
        });
        Load { began, threads: threads.collect(), stopped }
    }
}

impl Load {
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets every request that is under way end.
    ///
    /// # Panics
    /// When one of the clients did.
    pub fn stop(self) -> Report {
        self.stopped.store(true, Ordering::Release);
        let mut all = Tally::default();
        for thread in self.threads {
            let one = thread.join().expect("a client does not panic");
            all.answers.extend(one.answers);
            all.failures.extend(one.failures);
            all.closed.extend(one.closed);
        }
        Report(all)
    }
}

struct Client {
    address: SocketAddr,
    request: String,
    began: Instant,
    /// Of the next request.
    due: Duration,
    period: Duration,
    stopped: Arc<AtomicBool>,
    tally: Tally,
}

impl Client {
    fn run(mut self) -> Tally {
        while !self.is_stopped() {
            if let Err(error) = self.connection() {
                self.fail(error.to_string());
                thread::sleep(RETRY_PAUSE);
            }
        }
        self.tally
    }

    /// Until the load is stopped, the gateway closes the connection, or something fails.
    fn connection(&mut self) -> io::Result<()> {
        let mut wire = Wire::connect(self.address, DEADLINE)?;
        while !self.is_stopped() {
            let due = self.wait();
            let exchanged =
                wire.send(self.request.as_bytes()).and_then(|()| Response::read(&mut wire, "GET"));
            let response = exchanged.inspect_err(|_| self.tally.closed.push(due))?;
            match response.status {
                200 => self.tally.answers.push(Answer { due, took: self.began.elapsed() - due }),
                status => self.fail(format!("{status} {:?}", response.reason())),
            }
            if response.fields.lists("connection", "close") {
                self.tally.closed.push(due);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Until the next request is due. Returns the moment from which it is measured: when it was due if
    /// that has passed, and otherwise now, since oversleeping is no fault of the gateway.
    fn wait(&mut self) -> Duration {
        let due = self.due;
        self.due += self.period;
        match due.checked_sub(self.began.elapsed()) {
            Some(early) => {
                thread::sleep(early);
                self.began.elapsed()
            }
            None => due,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn fail(&mut self, what: String) {
        self.tally.failures.push(Failure { at: self.began.elapsed(), what });
    }
}

/// All that the clients saw.
pub struct Report(Tally);

/// What they saw in one stretch of time.
pub struct Window {
    pub requests: usize,
    pub failures: Vec<String>,
    pub closed: usize,
    /// Of the answered requests, in milliseconds.
    pub latency: Distribution,
}

impl Report {
    /// Requests by when they were due, since the load's start.
    pub fn window(&self, stretch: &Range<Duration>) -> Window {
        let within = |at: &Duration| stretch.contains(at);
        let answers = self.0.answers.iter().filter(|answer| within(&answer.due));
        let latency: Distribution = answers.map(|answer| millis(answer.took)).collect();
        let failures = self.0.failures.iter().filter(|failure| within(&failure.at));
        let failures: Vec<_> = failures.map(|failure| failure.what.clone()).collect();
        Window {
            requests: latency.len() + failures.len(),
            failures,
            closed: self.0.closed.iter().filter(|at| within(at)).count(),
            latency,
        }
    }

    /// From the start to the end.
    pub fn whole(&self) -> Window {
        self.window(&(Duration::ZERO..Duration::MAX))
    }

    /// Second by second up to `end`.
    pub fn seconds(&self, end: Duration) -> impl Iterator<Item = (u64, Window)> {
        let second = |number| Duration::from_secs(number)..Duration::from_secs(number + 1);
        (0..end.as_secs()).map(move |number| (number, self.window(&second(number))))
    }
}

impl Window {
    pub fn to_json(&self) -> Value {
        json!({
            "requests": self.requests,
            "failures": self.failures,
            "closed": self.closed,
            "latency_ms": self.latency.to_json(),
        })
    }
}
