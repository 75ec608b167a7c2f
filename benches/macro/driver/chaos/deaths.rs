//! Endpoints that die and come back, all the time. Of each app one never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;

use super::journal::Journal;
use super::world::Mortal;

/// Between two events, over all apps.
const PAUSE: Duration = Duration::from_millis(700);

pub struct Deaths {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Deaths {
    pub fn start(mortals: Vec<Vec<Arc<Mortal>>>, mut rng: Rng, journal: &Arc<Journal>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, journal) = (Arc::clone(&over), Arc::clone(journal));
        let thread = thread::spawn(move || {
            let all: Vec<_> = mortals.into_iter().flatten().collect();
            let mut lives = vec![true; all.len()];
            while !is_over.load(Ordering::Acquire) {
                let at = rng.usize(..all.len());
                if lives[at] {
                    all[at].die();
                    journal.death();
                } else {
                    all[at].come_back();
                }
                lives[at] = !lives[at];
                thread::sleep(PAUSE.mul_f64(2.0 * rng.f64()));
            }
        });
        Self { over, thread }
    }

    /// # Panics
    /// When an address was taken by somebody else.
    pub fn stop(self) {
        self.over.store(true, Ordering::Release);
        self.thread.join().expect("endpoints come back");
    }
}
