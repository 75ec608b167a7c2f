//! What was seen, and whether it was as it must be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::check::CONVERGENCE;

/// Enough to see a pattern.
const SHOWN: usize = 5;

pub struct Journal {
    began: Instant,
    served: AtomicU64,
    deaths: AtomicU64,
    /// Writes that the registry did after their writers had given up.
    late_writes: AtomicU64,
    /// Changes that were known to be done, and those that were not while a fault lasted.
    changes: [AtomicU64; 2],
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rounds: Vec<Round>,
    lost: Vec<Lost>,
    /// When each gateway was dead; without an end it is.
    dead: Vec<(usize, Duration, Option<Duration>)>,
}

#[derive(Debug, Clone)]
pub struct Round {
    pub number: usize,
    pub fault: &'static str,
    pub began: Duration,
    pub lasted: Duration,
    pub gateway_killed: bool,
    /// How long after the fault's end the registry had all that there is to be.
    pub reconciled_after: Duration,
    /// How long after that the last gateway had it too; `None`: too late.
    pub converged_after: Option<Duration>,
    pub difference: Option<String>,
}

/// A request without a right answer.
#[derive(Debug, Clone)]
pub struct Lost {
    pub gateway: usize,
    pub since: Duration,
    pub at: Duration,
    pub what: String,
}

impl Journal {
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            served: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            late_writes: AtomicU64::new(0),
            changes: Default::default(),
            inner: Mutex::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn served(&self) {
        self.served.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn death(&self) {
        self.deaths.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn late_write(&self) {
        self.late_writes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn change(&self, is_done: bool) {
        self.changes[usize::from(!is_done)].fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn lost(&self, gateway: usize, since: Duration, what: String) {
        let at = self.elapsed();
        self.inner().lost.push(Lost { gateway, since, at, what });
    }

    pub(super) fn gateway_dies(&self, gateway: usize) {
        let now = self.elapsed();
        self.inner().dead.push((gateway, now, None));
    }

    pub(super) fn gateway_lives(&self, gateway: usize) {
        let now = self.elapsed();
        let mut inner = self.inner();
        let death = inner.dead.iter_mut().rev().find(|(of, _, to)| *of == gateway && to.is_none());
        if let Some((.., to)) = death {
            *to = Some(now);
        }
    }

    pub(super) fn round(&self, round: Round) {
        if let Some(difference) = &round.difference {
            println!("round {} ({}): {difference}", round.number, round.fault);
        }
        self.inner().rounds.push(round);
    }

    pub fn served_total(&self) -> u64 {
        self.served.load(Ordering::Acquire)
    }

    pub fn late_writes_total(&self) -> u64 {
        self.late_writes.load(Ordering::Acquire)
    }

    pub fn deaths_total(&self) -> u64 {
        self.deaths.load(Ordering::Acquire)
    }

    /// How many changes were known to be done, and how many not while they were tried: those were done later.
    pub fn changes_total(&self) -> (u64, u64) {
        let [done, late] = &self.changes;
        (done.load(Ordering::Acquire), late.load(Ordering::Acquire))
    }

    pub fn gateway_deaths_total(&self) -> usize {
        self.inner().dead.len()
    }

    pub fn rounds(&self) -> Vec<Round> {
        self.inner().rounds.clone()
    }

    /// How often each fault struck, and how long gateways took after it.
    pub fn by_fault(&self) -> BTreeMap<&'static str, Vec<Round>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for round in self.rounds() {
            found.entry(round.fault).or_default().push(round);
        }
        found
    }

    /// Requests that an endpoint could have served: the gateway that was asked lived.
    pub fn losses(&self) -> Vec<Lost> {
        self.split().0
    }

    /// Requests that a killed gateway took with it.
    pub fn excused(&self) -> Vec<Lost> {
        self.split().1
    }

    fn split(&self) -> (Vec<Lost>, Vec<Lost>) {
        let inner = self.inner();
        let is_lost = |lost: &&Lost| {
            let was_dead = |(of, from, to): &(usize, Duration, Option<Duration>)| {
                *of == lost.gateway && lost.at >= *from && to.is_none_or(|to| lost.since <= to)
            };
            !inner.dead.iter().any(was_dead)
        };
        let (losses, excused): (Vec<_>, Vec<_>) = inner.lost.iter().partition(is_lost);
        (losses.into_iter().cloned().collect(), excused.into_iter().cloned().collect())
    }

    /// What is not as it must be; empty: all is.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let losses = self.losses();
        if !losses.is_empty() {
            let shown: Vec<_> = losses.iter().take(SHOWN).collect();
            wrong.push(format!("{} requests were lost: {shown:?}", losses.len()));
        }
        for round in self.rounds() {
            if let Some(difference) = &round.difference {
                let within = CONVERGENCE.as_secs();
                wrong.push(format!(
                    "round {}, {}, not within {within} s: {difference}",
                    round.number, round.fault
                ));
            }
        }
        if self.served_total() == 0 || self.rounds().is_empty() {
            wrong.push("nothing was asked for".to_owned());
        }
        wrong
    }
}
