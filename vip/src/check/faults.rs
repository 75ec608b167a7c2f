//! What goes wrong and when: a script made from a seed, so that it can be shortened.

use std::time::Duration;

use fastrand::Rng;

use super::world::{Outcome, Rules, World};

/// Faults happen until then; afterwards somebody has to hold.
pub const FAULTS_END: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP until then, in the middle of a turn or between two.
    Freeze { node: usize, lasts: Duration, within_turn: bool },
    Crash { node: usize, down: Duration },
    /// Messages one way.
    Cut { from: usize, to: usize, lasts: Duration },
    Isolate { node: usize, lasts: Duration },
    /// The registry, for one of them.
    CutRegistry { node: usize, lasts: Duration },
    StopRegistry { lasts: Duration },
    /// Everything is late.
    SlowRegistry { lasts: Duration },
    SlowNetwork { lasts: Duration },
    Ineligible { node: usize, lasts: Duration },
    HandOver { node: usize, to: usize },
    /// The kernel refuses once.
    HoldFails { node: usize },
    DropFails { node: usize },
    Contested { node: usize },
}

#[derive(Debug, Clone, Copy)]
pub struct TimedFault {
    pub at: Duration,
    pub fault: Fault,
}

/// Each seed has its own mixture: some kinds often, others never, so that rare sequences of few kinds are met.
pub fn script(seed: u64, nodes: usize) -> Vec<TimedFault> {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let likely: [u32; 13] = std::array::from_fn(|_| if rng.bool() { rng.u32(1..10) } else { 0 });
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
