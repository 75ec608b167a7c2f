//! Every condition is needed: without it two gateways hold at once, and the check finds it.

use super::faults::{Fault, TimedFault, grants_outlive_a_run, lone_grantor_returns, script};
use super::random::explain;
use super::world::{Outcome, Rules, World};
use crate::config::Mode;
use crate::machine::Conditions;

/// More than any condition has needed by far.
const SEEDS: u64 = 2500;

/// By chance, or by a script that brings about what chance rarely does.
type Script = fn(u64) -> Vec<TimedFault>;

const BY_CHANCE: Script = |seed| script(seed, 3);

/// By chance, but nothing that only a fence in the kernel could stop.
const PROCESSES_RUN: Script = |seed| {
    let stops = |fault: Fault| {
        matches!(fault, Fault::Crash { .. } | Fault::HoldFails { .. } | Fault::DropFails { .. })
    };
    script(seed, 3).into_iter().filter(|timed| !stops(timed.fault)).collect()
};

fn expect_two_holders(what: &str, rules: &Rules, make: Script) {
    for seed in 0..SEEDS {
        let faults = make(seed);
        let outcome = World::run(seed, rules, &faults);
        if matches!(outcome, Outcome::TwoHolders { .. }) {
            let explained = explain(seed, rules, faults, outcome);
            println!("without {what}: found after {} runs\n{explained}\n", seed + 1);
            return;
        }
    }
    panic!("without {what}: {SEEDS} runs and never two holders; is it a condition?");
}

fn without(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

/// One test per condition of the machine.
macro_rules! conditions {
    ($($name:ident $script:ident)*) => {
        $(#[test]
        fn $name() {
            let rules = without(|rules| rules.conditions.$name = false);
            expect_two_holders(stringify!($name), &rules, $script);
        })*

        /// No condition is left out: this does not compile with a field that is not named above.
        #[test]
        fn conditions_are_all_on_and_all_removed_once() {
            let Conditions { $($name,)* deadline_comes_first } = Conditions::ALL;
            assert!([$($name,)* deadline_comes_first].into_iter().all(|heeded| heeded));
        }
    };
}

conditions! {
    leases_count_from_sending BY_CHANCE
    waits_count_from_versions BY_CHANCE
    waits_count_from_grants BY_CHANCE
    waits_cover_errors BY_CHANCE
    unknown_writes_need_old_grantors BY_CHANCE
    unknown_writes_need_new_grantors BY_CHANCE
    registry_mode_needs_writes lone_grantor_returns
    no_grants_while_claiming BY_CHANCE
    found_writes_count_from_sending BY_CHANCE
    grants_answer_one_heartbeat BY_CHANCE
    grants_name_run_and_epoch grants_outlive_a_run
    letting_go_precedes_release BY_CHANCE
    unknown_releases_end_holding BY_CHANCE
    hold_max_ends_holding BY_CHANCE
    outsiders_wait_for_hold_max BY_CHANCE
    registry_mode_has_its_own_wait BY_CHANCE
    holder_is_one_run BY_CHANCE
    endings_name_a_run BY_CHANCE
    older_versions_are_ignored BY_CHANCE
}

#[test]
fn kernel_closes_the_fence_of_a_frozen_process() {
    expect_two_holders("a fence in the kernel", &without(|rules| rules.kernel_fence = false), BY_CHANCE);
}

/// The first of two fences: where the kernel has none and no process freezes, it alone holds.
#[test]
fn deadline_comes_first() {
    let no_fence = |rules: &mut Rules| {
        (rules.kernel_fence, rules.freezes) = (false, false);
        rules.conditions.deadline_comes_first = false;
    };
    expect_two_holders("the deadline at every turn", &without(no_fence), PROCESSES_RUN);
    let with_deadline = without(|rules| (rules.kernel_fence, rules.freezes) = (false, false));
    for seed in 0..200 {
        let outcome = World::run(seed, &with_deadline, &PROCESSES_RUN(seed));
        assert!(!matches!(outcome, Outcome::TwoHolders { .. }), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn guard_closes_the_fence_before_it_tells_of_the_end() {
    expect_two_holders(
        "a guard that closes first",
        &without(|rules| rules.guard_closes_first = false),
        BY_CHANCE,
    );
}

#[test]
fn registry_compares_before_it_sets() {
    expect_two_holders("compare-and-set", &without(|rules| rules.compare = false), BY_CHANCE);
}

#[test]
fn clocks_run_while_the_kernel_forwards() {
    expect_two_holders("clocks that run", &without(|rules| rules.clocks_run = false), BY_CHANCE);
}

#[test]
fn registry_mode_alone_needs_its_conditions() {
    let registry = |rules: &mut Rules| {
        rules.mode = Mode::Registry;
        rules.conditions.leases_count_from_sending = false;
    };
    expect_two_holders("leases from sending, in registry mode", &without(registry), BY_CHANCE);
}
