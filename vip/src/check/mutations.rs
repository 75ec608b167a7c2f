//! Every condition is needed: without it two gateways hold at once, and the check finds it.

use super::faults::script;
use super::random::explain;
use super::world::{Outcome, Rules, World};
use crate::config::Mode;
use crate::machine::Conditions;

/// More than any condition has needed by far.
const SEEDS: u64 = 6000;

fn expect_two_holders(what: &str, rules: &Rules) {
    for seed in 0..SEEDS {
        let outcome = World::run(seed, rules, &script(seed, rules.nodes));
        if matches!(outcome, Outcome::TwoHolders { .. }) {
            println!("without {what}: found after {} runs\n{}\n", seed + 1, explain(seed, rules, outcome));
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
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let rules = without(|rules| rules.conditions.$name = false);
            expect_two_holders(stringify!($name), &rules);
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
    leases_count_from_sending
    waits_count_from_versions
    waits_count_from_grants
    waits_cover_errors
    unknown_writes_need_old_grantors
    unknown_writes_need_new_grantors
    registry_mode_needs_writes
    no_grants_while_claiming
    found_writes_count_from_sending
    grants_answer_one_heartbeat
    grants_name_run_and_epoch
    letting_go_precedes_release
    unknown_releases_end_holding
    hold_max_ends_holding
    outsiders_wait_for_hold_max
    registry_mode_has_its_own_wait
    holder_is_one_run
    older_versions_are_ignored
}

#[test]
fn kernel_closes_the_fence_of_a_frozen_process() {
    expect_two_holders("a fence in the kernel", &without(|rules| rules.kernel_fence = false));
}

/// The first of two fences: where the kernel has none and no process freezes, it alone holds.
#[test]
fn deadline_comes_first() {
    let no_fence = |rules: &mut Rules| {
        (rules.kernel_fence, rules.freezes) = (false, false);
        rules.conditions.deadline_comes_first = false;
    };
    expect_two_holders("the deadline at every turn", &without(no_fence));
}

#[test]
fn registry_compares_before_it_sets() {
    expect_two_holders("compare-and-set", &without(|rules| rules.compare = false));
}

#[test]
fn clocks_run_while_the_kernel_forwards() {
    expect_two_holders("clocks that run", &without(|rules| rules.clocks_run = false));
}

#[test]
fn registry_mode_alone_needs_its_conditions() {
    let registry = |rules: &mut Rules| {
        rules.mode = Mode::Registry;
        rules.conditions.leases_count_from_sending = false;
    };
    expect_two_holders("leases from sending, in registry mode", &without(registry));
}
