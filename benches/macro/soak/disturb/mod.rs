//! All that happens to a gateway beside its load: a seeded schedule per source of trouble.
//!
//! The seed decides what happens and in which order; when exactly depends on how busy the machine is.

mod attackers;
mod deaths;
mod files;
mod processes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::load::Load;
use super::site::{Addresses, Site};
use benches::soak::journal::Journal;

pub use attackers::start as attack;
pub use deaths::run as deaths;
pub use files::run as files;
pub use processes::{Plan, run as processes};

/// A disturbance sees that it is over this soon.
const GLANCE: Duration = Duration::from_millis(20);

/// What every source of trouble has.
pub struct Trouble {
    pub site: Arc<Site>,
    pub addresses: Addresses,
    pub journal: Arc<Journal>,
    pub load: Arc<Load>,
    /// Held while a file is broken on purpose, and while a process begins, which reads them all.
    whole: Mutex<()>,
    over: AtomicBool,
}

impl Trouble {
    pub fn new(site: Arc<Site>, addresses: Addresses, journal: Arc<Journal>, load: Arc<Load>) -> Self {
        let (whole, over) = (Mutex::default(), AtomicBool::new(false));
        Self { site, addresses, journal, load, whole, over }
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits for about `time`; whether to go on.
    fn pause(&self, rng: &mut Rng, time: Duration) -> bool {
        self.wait(time.mul_f64(0.7 + 0.6 * rng.f64()))
    }

    /// Whether to go on.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.is_over() && Instant::now() < until {
            thread::sleep(GLANCE.min(until.saturating_duration_since(Instant::now())));
        }
        !self.is_over()
    }

    /// Waits until `condition` holds, and writes down when it does not come to.
    fn expect(&self, deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
        if !tests::comes_true(deadline, condition) {
            self.journal.broken(format!("not within {deadline:?}: {what}"));
        }
    }
}
