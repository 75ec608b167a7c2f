//! Clients that ask again as soon as they have an answer, and look at every byte of it.

mod http1;
mod http2;
mod long;
mod secure;
mod tunnels;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;

use super::site::Addresses;
use benches::soak::journal::{Journal, Kind, What};

/// After a connection that could not be made, so that a gateway that is gone yields failures and no storm.
const PAUSE: Duration = Duration::from_millis(50);
/// The stacks of hundreds of threads.
const STACK_BYTES: usize = 512 << 10;

/// What all clients share.
pub struct Load {
    pub addresses: Addresses,
    pub journal: Arc<Journal>,
    /// The longest that a tunnel or a slow stream lasts.
    pub longest: Duration,
    /// The DER of every certificate that may be served, and which one was seen last.
    pub known: Vec<Vec<u8>>,
    pub last_seen: AtomicUsize,
    stopped: AtomicBool,
}

/// What a thread does until it is stopped: a connection, mostly.
type Client = fn(&Load, &mut Rng);

/// How many of each there are. Together they keep two workers busy; each kind often enough to count.
const CLIENTS: &[(usize, Client)] = &[
    (32, http1::keepalive),
    (6, http1::connections),
    (8, http1::posts),
    (2, long::bodies),
    (8, long::streams),
    (2, secure::handshakes),
    (3, http2::in_clear_text),
    (3, http2::secure),
    (16, tunnels::websocket),
    (12, tunnels::tcp),
];

impl Load {
    pub fn new(addresses: Addresses, journal: Arc<Journal>, longest: Duration, known: Vec<Vec<u8>>) -> Self {
        let (last_seen, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { addresses, journal, longest, known, last_seen, stopped }
    }

    /// Every client on a thread of its own.
    pub fn start(self: &Arc<Self>, rng: &mut Rng) -> std::io::Result<Vec<JoinHandle<()>>> {
        let clients = CLIENTS.iter().flat_map(|(count, client)| vec![*client; *count]);
        let spawn = |client: Client| {
            let (load, mut rng) = (Arc::clone(self), rng.fork());
            thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                while !load.is_stopped() {
                    client(&load, &mut rng);
                }
            })
        };
        clients.map(spawn).collect()
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn now(&self) -> Duration {
        self.journal.elapsed()
    }

    fn fail(&self, kind: Kind, app: &'static str, since: Duration, what: What) {
        if let What::Unanswered(_) = what {
            thread::sleep(PAUSE);
        }
        self.journal.fail(kind, app, since, what);
    }

    /// How long the next tunnel or stream lasts: mostly short.
    fn life(&self, rng: &mut Rng) -> Duration {
        self.longest.mul_f64(rng.f64().powi(3))
    }
}
