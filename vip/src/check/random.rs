//! Many seeds under all conditions: never two holders, and somebody holds when the faults are over.

use super::faults::{TimedFault, grants_outlive_a_run, lone_grantor_returns, script, shrink};
use super::world::{Outcome, Rules, World};
use crate::config::Mode;

/// What every test run looks at: a few seconds.
const SEEDS: u64 = 400;

/// Prints the seed, and the fewest faults that do it.
pub fn explain(seed: u64, rules: &Rules, faults: Vec<TimedFault>, outcome: Outcome) -> String {
    let faults = shrink(seed, rules, faults);
    let lines = faults.iter().map(|fault| format!("  {:?} {:?}", fault.at, fault.fault));
    format!("seed {seed}: {outcome:?}; the fewest faults:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn look(rules: &Rules, seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Vec<TimedFault>) -> (u64, u64) {
    let (mut turns, mut takeovers) = (0, 0);
    for seed in seeds {
        let faults = make(seed);
        match World::run(seed, rules, &faults) {
            Outcome::Fine { turns: more, takeovers: again } => {
                turns += more;
                takeovers += again;
            }
            Outcome::NoHolder => panic!("seed {seed}: nobody holds after the faults"),
            outcome @ Outcome::TwoHolders { .. } => panic!("{}", explain(seed, rules, faults, outcome)),
        }
    }
    (turns, takeovers)
}

fn seeds_from_environment(otherwise: u64) -> u64 {
    std::env::var("VIP_CHECK_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn never_two_holders_and_one_in_the_end() {
    let (turns, takeovers) = look(&Rules::default(), 0..SEEDS, |seed| script(seed, 3));
    println!("peer mode, 3 gateways: {SEEDS} runs of 35 s, {turns} turns, {takeovers} takeovers");
    // What never takes over proves nothing.
    assert!(takeovers > SEEDS * 3);
}

#[test]
fn never_two_holders_with_two_or_five_gateways_or_by_the_registry_alone() {
    for (nodes, mode) in [(2, Mode::Peer), (5, Mode::Peer), (3, Mode::Registry)] {
        let rules = Rules { nodes, mode, ..Rules::default() };
        let (turns, takeovers) = look(&rules, 0..SEEDS / 4, |seed| script(seed, nodes));
        println!("{mode:?} mode, {nodes} gateways: {} runs, {turns} turns, {takeovers} takeovers", SEEDS / 4);
    }
}

#[test]
fn never_two_holders_in_scripts_made_for_a_condition() {
    for make in [lone_grantor_returns, grants_outlive_a_run] {
        look(&Rules::default(), 0..SEEDS / 2, make);
    }
}

/// `VIP_CHECK_SEEDS` of them, in all sizes; by hand, or at night.
#[test]
#[ignore = "takes as long as it is told to"]
fn never_two_holders_in_many_runs() {
    let seeds = seeds_from_environment(20_000);
    for (nodes, mode) in [(3, Mode::Peer), (2, Mode::Peer), (4, Mode::Peer), (3, Mode::Registry)] {
        let rules = Rules { nodes, mode, ..Rules::default() };
        let (turns, takeovers) = look(&rules, 0..seeds, |seed| script(seed, nodes));
        println!("{mode:?} mode, {nodes} gateways: {seeds} runs, {turns} turns, {takeovers} takeovers");
    }
}

#[test]
#[ignore = "tells what happens in the run of VIP_CHECK_SEED"]
fn what_happens_in_one_run() {
    let seed = std::env::var("VIP_CHECK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let rules = Rules { trace: true, ..Rules::default() };
    println!("{:?}", World::run(seed, &rules, &script(seed, rules.nodes)));
}
