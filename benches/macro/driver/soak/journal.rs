//! What happened: answers by their kind, everything that was no right answer, and when endpoints were dead.
//!
//! Nothing is judged while the load runs. Whether a failure was on purpose is only known when all is written down.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tests::Response;

/// Failures that are said at once; all are on the page.
const SHOWN: usize = 1_000;

/// What a client was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Keepalive,
    Connection,
    Handshake,
    Post,
    Body,
    Stream,
    Http2,
    Http2Post,
    WebSocket,
    Tcp,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Keepalive,
        Self::Connection,
        Self::Handshake,
        Self::Post,
        Self::Body,
        Self::Stream,
        Self::Http2,
        Self::Http2Post,
        Self::WebSocket,
        Self::Tcp,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "GET, keepalive",
            Self::Connection => "GET, a connection each",
            Self::Handshake => "GET, a TLS handshake each",
            Self::Post => "POST",
            Self::Body => "long body",
            Self::Stream => "slow stream",
            Self::Http2 => "HTTP/2 GET",
            Self::Http2Post => "HTTP/2 POST",
            Self::WebSocket => "WebSocket message",
            Self::Tcp => "TCP message",
        }
    }
}

/// Why something was no right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The gateway's own answer, or another status than 200.
    Answer { status: u16, reason: Option<String> },
    /// The connection or stream ended before there was any of an answer.
    Unanswered(String),
    /// A response or a tunnel that had begun broke off.
    Cut(String),
    /// It was complete, and not what was asked for.
    Wrong(String),
}

impl What {
    pub fn of(response: &Response) -> Self {
        let reason = response.fields.all("x-sluice-reason").first().map(|reason| (*reason).to_owned());
        Self::Answer { status: response.status, reason }
    }

    pub fn unanswered(error: &io::Error) -> Self {
        Self::Unanswered(format!("{:?}: {error}", error.kind()))
    }

    pub fn cut(error: &io::Error) -> Self {
        match error.kind() {
            // Too long a wait is another matter than an end.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Wrong("nothing comes any more".to_owned())
            }
            kind => Self::Cut(format!("{kind:?}: {error}")),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: Kind,
    pub app: &'static str,
    /// Since when the client waited, and when it knew.
    pub since: Duration,
    pub at: Duration,
    pub what: What,
}

/// An endpoint that was killed.
#[derive(Debug, Clone)]
pub struct Death {
    pub app: &'static str,
    pub instance: usize,
    pub from: Duration,
    /// When its last connection was closed; endless while that is not over.
    pub to: Duration,
}

/// Something that the disturbance expected of the gateway and did not get.
#[derive(Debug, Clone)]
pub struct Broken {
    pub at: Duration,
    pub what: String,
}

#[derive(Debug, Default)]
struct Entries {
    failures: Vec<Failure>,
    deaths: Vec<Death>,
    broken: Vec<Broken>,
    /// How often each disturbance happened.
    events: BTreeMap<&'static str, u64>,
}

pub struct Journal {
    began: Instant,
    right: [AtomicU64; Kind::ALL.len()],
    bytes: AtomicU64,
    entries: Mutex<Entries>,
}

impl Journal {
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            right: Default::default(),
            bytes: AtomicU64::new(0),
            entries: Mutex::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// One more answer of `bytes` content was right.
    pub fn right(&self, kind: Kind, bytes: usize) {
        self.right[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.right[kind as usize].load(Ordering::Relaxed)
    }

    /// All right answers.
    pub fn total(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.count(kind)).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn fail(&self, kind: Kind, app: &'static str, since: Duration, what: What) {
        let at = self.elapsed();
        let mut entries = self.entries();
        if entries.failures.len() < SHOWN {
            println!("[{:7.1}] {} of {app}: {what:?}", at.as_secs_f64(), kind.name());
        }
        entries.failures.push(Failure { kind, app, since, at, what });
    }

    /// An endpoint begins to die; returns what to tell [`Self::has_died`].
    pub fn dies(&self, app: &'static str, instance: usize) -> usize {
        let from = self.elapsed();
        let mut entries = self.entries();
        entries.deaths.push(Death { app, instance, from, to: Duration::MAX });
        entries.deaths.len() - 1
    }

    pub fn has_died(&self, death: usize) {
        let at = self.elapsed();
        self.entries().deaths[death].to = at;
    }

    pub fn event(&self, what: &'static str) {
        *self.entries().events.entry(what).or_default() += 1;
    }

    pub fn broken(&self, what: String) {
        let at = self.elapsed();
        println!("[{:7.1}] {what}", at.as_secs_f64());
        self.entries().broken.push(Broken { at, what });
    }

    pub fn failures(&self) -> Vec<Failure> {
        self.entries().failures.clone()
    }

    pub fn deaths(&self) -> Vec<Death> {
        self.entries().deaths.clone()
    }

    pub fn all_broken(&self) -> Vec<Broken> {
        self.entries().broken.clone()
    }

    pub fn events(&self) -> BTreeMap<&'static str, u64> {
        self.entries().events.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
