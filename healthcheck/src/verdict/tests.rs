use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn after(history: &[bool], thresholds: Thresholds) -> Verdict {
    let mut verdict = Verdict::default();
    for passed in history {
        verdict.observe(*passed, thresholds);
    }
    verdict
}

/// The state told from the whole history at once: the latest run that was long enough decides, and
/// where there is none, the first probe does.
fn oracle(history: &[bool], rise: u32, fall: u32) -> State {
    let state = |passed: bool| if passed { State::Up } else { State::Down };
    let mut run = 0;
    let mut decided = history.first().map_or(State::Unknown, |first| state(*first));
    for (index, passed) in history.iter().enumerate() {
        run = if index > 0 && history[index - 1] == *passed { run + 1 } else { 1 };
        if run >= if *passed { rise } else { fall } {
            decided = state(*passed);
        }
    }
    decided
}

#[test]
fn unprobed_endpoint_takes_traffic() {
    assert!(Verdict::default().state().is_up());
}

#[test]
fn first_probe_decides_at_once() {
    let thresholds = Thresholds::new(3, 3);
    assert_eq!(after(&[false], thresholds).state(), State::Down);
    assert_eq!(after(&[true], thresholds).state(), State::Up);
}

#[test]
fn transition_names_both_states_once() {
    let thresholds = Thresholds::new(2, 2);
    let mut verdict = after(&[true, false], thresholds);
    assert_eq!(verdict.observe(false, thresholds), Some(Transition { from: State::Up, to: State::Down }));
    assert_eq!(verdict.observe(false, thresholds), None);
}

#[test]
fn zero_thresholds_mean_one() {
    let thresholds = Thresholds::new(0, 0);
    assert_eq!(after(&[true, false], thresholds).state(), State::Down);
    assert_eq!(after(&[true, false, true], thresholds).state(), State::Up);
}

#[test]
fn forgotten_run_does_not_count() {
    let thresholds = Thresholds::new(2, 2);
    let mut verdict = after(&[true, false], thresholds);
    verdict.restart_count();
    assert_eq!(verdict.observe(false, thresholds), None);
    assert_eq!(verdict.state(), State::Up);
}

proptest! {
    #[test]
    fn never_flips_on_a_shorter_run(history in vec(any::<bool>(), 0..200), rise in 1u32..6, fall in 1u32..6) {
        let thresholds = Thresholds::new(rise, fall);
        let mut verdict = Verdict::default();
        for passed in history {
            match verdict.observe(passed, thresholds) {
                Some(Transition { from: State::Up, to }) => {
                    prop_assert_eq!(to, State::Down);
                    prop_assert!(verdict.consecutive_failures() >= fall);
                }
                Some(Transition { from: State::Down, to }) => {
                    prop_assert_eq!(to, State::Up);
                    prop_assert!(verdict.consecutive_passes() >= rise);
                }
                Some(Transition { from: State::Unknown, .. }) | None => {}
            }
        }
    }

    #[test]
    fn recovers_by_itself(history in vec(any::<bool>(), 0..50), rise in 1u32..6, fall in 1u32..6) {
        let thresholds = Thresholds::new(rise, fall);
        let mut verdict = after(&history, thresholds);
        for _ in 0..rise {
            verdict.observe(true, thresholds);
        }
        prop_assert_eq!(verdict.state(), State::Up);
    }

    #[test]
    fn goes_down_whatever_came_before(history in vec(any::<bool>(), 0..50), rise in 1u32..6, fall in 1u32..6) {
        let thresholds = Thresholds::new(rise, fall);
        let mut verdict = after(&history, thresholds);
        for _ in 0..fall {
            verdict.observe(false, thresholds);
        }
        prop_assert_eq!(verdict.state(), State::Down);
    }

    #[test]
    fn latest_decisive_run_decides(history in vec(any::<bool>(), 0..60), rise in 1u32..6, fall in 1u32..6) {
        prop_assert_eq!(after(&history, Thresholds::new(rise, fall)).state(), oracle(&history, rise, fall));
    }

    #[test]
    fn what_came_before_a_decisive_run_is_forgotten(
        one in vec(any::<bool>(), 0..30),
        other in vec(any::<bool>(), 0..30),
        passing in any::<bool>(),
        tail in vec(any::<bool>(), 0..30),
        rise in 1u32..6,
        fall in 1u32..6,
    ) {
        let thresholds = Thresholds::new(rise, fall);
        let suffix: Vec<bool> = std::iter::repeat_n(passing, rise.max(fall) as usize).chain(tail).collect();
        let state = |prefix: Vec<bool>| after(&[prefix, suffix.clone()].concat(), thresholds).state();
        prop_assert_eq!(state(one), state(other));
    }
}
