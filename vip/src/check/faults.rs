//! What goes wrong and when: a script made from a seed, so that it can be shortened.

use std::time::Duration;

use fastrand::Rng;

use super::world::{Outcome, Rules, World};

/// Faults happen until then; afterwards somebody has to hold.
pub const FAULTS_END: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP until then, in the middle of a turn or between two.
    Freeze {
        node: usize,
        lasts: Duration,
        within_turn: bool,
    },
    Crash {
        node: usize,
        down: Duration,
    },
    /// Messages one way.
    Cut {
        from: usize,
        to: usize,
        lasts: Duration,
    },
    Isolate {
        node: usize,
        lasts: Duration,
    },
    /// The registry, for one of them.
    CutRegistry {
        node: usize,
        lasts: Duration,
    },
    StopRegistry {
        lasts: Duration,
    },
    /// Everything is late.
    SlowRegistry {
        lasts: Duration,
    },
    SlowNetwork {
        lasts: Duration,
    },
    /// What is sent meanwhile arrives a second time, up to three seconds later.
    Echo {
        lasts: Duration,
    },
    Ineligible {
        node: usize,
        lasts: Duration,
    },
    HandOver {
        node: usize,
        to: usize,
    },
    /// The kernel refuses once.
    HoldFails {
        node: usize,
    },
    DropFails {
        node: usize,
    },
    Contested {
        node: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub struct TimedFault {
    pub at: Duration,
    pub fault: Fault,
}

/// Each seed has its own mixture: some kinds often, others never, so that rare sequences of few kinds are met.
pub fn script(seed: u64, nodes: usize) -> Vec<TimedFault> {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let likely: [u32; 14] = std::array::from_fn(|_| if rng.bool() { rng.u32(1..10) } else { 0 });
    let total: u32 = likely.iter().sum();
    let pause = rng.u64(60..1200);
    let mut faults = Vec::new();
    let mut at = Duration::from_millis(rng.u64(100..2000));
    while at < FAULTS_END && total > 0 {
        let mut choice = rng.u32(0..total);
        let kind = likely.iter().position(|weight| {
            let chosen = choice < *weight;
            choice = choice.saturating_sub(*weight);
            chosen
        });
        let fault = one(kind.unwrap_or(0), nodes, &mut rng);
        faults.push(TimedFault { at, fault });
        at += Duration::from_millis(rng.u64(1..pause));
    }
    faults
}

/// A lone grantor is silent for a moment, the holder removes it and does not learn that it has: the register says registry
/// mode, where a third that the holder does not reach may take over, while the grantor grants again.
pub fn lone_grantor_returns(seed: u64) -> Vec<TimedFault> {
    let mut rng = Rng::with_seed(seed);
    let at = |millis, fault| TimedFault { at: Duration::from_millis(millis), fault };
    let lasts = Duration::from_secs(9);
    let short = Duration::from_millis(rng.u64(160..260));
    vec![
        at(3000, Fault::Cut { from: 0, to: 2, lasts }),
        at(3000, Fault::Cut { from: 2, to: 0, lasts }),
        at(4500, Fault::Cut { from: 0, to: 1, lasts: short }),
        at(rng.u64(4600..4700), Fault::CutRegistry { node: 0, lasts }),
    ]
}

/// The first holds, restarts while grants to its first run are under way, holds again, and is cut off from a grantor and from the
/// registry when its heartbeats have the numbers that those grants answer.
pub fn grants_outlive_a_run(seed: u64) -> Vec<TimedFault> {
    let mut rng = Rng::with_seed(seed);
    let at = |millis, fault| TimedFault { at: Duration::from_millis(millis), fault };
    let lasts = Duration::from_secs(3);
    let cut = rng.u64(5300..6300);
    vec![
        at(2500, Fault::Echo { lasts: Duration::from_secs(1) }),
        at(3500, Fault::Crash { node: 0, down: Duration::from_millis(10) }),
        at(4000, Fault::HandOver { node: 1, to: 0 }),
        at(cut, Fault::Cut { from: 0, to: 1, lasts }),
        at(cut, Fault::CutRegistry { node: 0, lasts }),
    ]
}

fn one(kind: usize, nodes: usize, rng: &mut Rng) -> Fault {
    let node = rng.usize(0..nodes);
    let other = (node + rng.usize(1..nodes)) % nodes;
    let lasts = match rng.u8(0..4) {
        0 => Duration::from_millis(rng.u64(1..150)),
        1 | 2 => Duration::from_millis(rng.u64(100..1500)),
        _ => Duration::from_millis(rng.u64(1000..6000)),
    };
    match kind {
        0 => Fault::Freeze { node, lasts, within_turn: rng.bool() },
        1 => Fault::Crash { node, down: lasts },
        2 => Fault::Cut { from: node, to: other, lasts },
        3 => Fault::Isolate { node, lasts },
        4 => Fault::CutRegistry { node, lasts },
        5 => Fault::StopRegistry { lasts },
        6 => Fault::SlowRegistry { lasts },
        7 => Fault::SlowNetwork { lasts },
        8 => Fault::Ineligible { node, lasts },
        9 => Fault::HandOver { node, to: other },
        10 => Fault::HoldFails { node },
        11 => Fault::DropFails { node },
        12 => Fault::Echo { lasts },
        _ => Fault::Contested { node },
    }
}

/// Leaves out every fault without which it fails all the same.
pub fn shrink(seed: u64, rules: &Rules, faults: Vec<TimedFault>) -> Vec<TimedFault> {
    let mut faults = faults;
    let mut size = faults.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < faults.len() {
            let mut fewer = faults.clone();
            fewer.drain(start..(start + size).min(fewer.len()));
            if matches!(World::run(seed, rules, &fewer), Outcome::TwoHolders { .. }) {
                faults = fewer;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    faults
}
