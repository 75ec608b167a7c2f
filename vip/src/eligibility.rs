//! Whether this gateway could serve an address: several checks, each of which rises and falls slowly.

use std::fmt;

/// What is looked at. Words of the metric's label `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// All listeners accept.
    Listeners,
    /// A request through the data path is answered.
    Probe,
    /// The interface has a carrier.
    Carrier,
    /// The process serves and does not drain.
    Serving,
}

impl Check {
    pub const ALL: [Self; 4] = [Self::Listeners, Self::Probe, Self::Carrier, Self::Serving];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Probe => "probe",
            Self::Carrier => "carrier",
            Self::Serving => "serving",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How many results in a row change a check's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Passed ones until it is good; at least 1.
    pub rise: u32,
    /// Failed ones until it is bad; at least 1.
    pub fall: u32,
}

impl Thresholds {
    /// One result decides: for states that are certain, such as a drain.
    pub const AT_ONCE: Self = Self { rise: 1, fall: 1 };
}

#[derive(Debug, Clone)]
struct State {
    thresholds: Thresholds,
    good: bool,
    /// Results in a row against the verdict.
    against: u32,
}

/// All checks. One that was not set up is not asked for.
#[derive(Debug, Clone, Default)]
pub struct Eligibility {
    states: [Option<State>; Check::ALL.len()],
}

impl Eligibility {
    /// Asks for `check`, which is bad until it has risen.
    pub fn require(&mut self, check: Check, thresholds: Thresholds) {
        self.states[check as usize] = Some(State { thresholds, good: false, against: 0 });
    }

    /// One result. Returns whether the verdict on the whole has changed.
    pub fn report(&mut self, check: Check, passed: bool) -> bool {
        let before = self.is_eligible();
        if let Some(state) = &mut self.states[check as usize] {
            state.report(passed);
        }
        before != self.is_eligible()
    }

    pub fn is_eligible(&self) -> bool {
        self.states.iter().flatten().all(|state| state.good)
    }

    /// By check that is asked for, whether it is good.
    pub fn verdicts(&self) -> impl Iterator<Item = (Check, bool)> {
        Check::ALL
            .into_iter()
            .zip(&self.states)
            .filter_map(|(check, state)| Some((check, state.as_ref()?.good)))
    }
}

impl State {
    fn report(&mut self, passed: bool) {
        if passed == self.good {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if passed { self.thresholds.rise } else { self.thresholds.fall };
        if self.against >= needed {
            (self.good, self.against) = (passed, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed() -> Eligibility {
        let mut eligibility = Eligibility::default();
        eligibility.require(Check::Probe, Thresholds { rise: 2, fall: 3 });
        eligibility
    }

    #[test]
    fn verdict_changes_after_results_in_a_row() {
        let mut eligibility = probed();
        let results = [true, false, true, true, false, false, true, false, false, false, true, true];
        let changed = results.map(|passed| eligibility.report(Check::Probe, passed));
        let expected = [3, 9, 11];
        assert_eq!((0..results.len()).filter(|index| changed[*index]).collect::<Vec<_>>(), expected);
        assert!(eligibility.is_eligible());
    }

    #[test]
    fn all_checks_that_are_asked_for_must_be_good() {
        let mut eligibility = probed();
        eligibility.require(Check::Carrier, Thresholds::AT_ONCE);
        eligibility.report(Check::Probe, true);
        eligibility.report(Check::Probe, true);
        assert!(!eligibility.is_eligible());
        assert!(eligibility.report(Check::Carrier, true));
        assert!(!eligibility.report(Check::Listeners, false));
        let verdicts = eligibility.verdicts().collect::<Vec<_>>();
        assert_eq!(verdicts, [(Check::Probe, true), (Check::Carrier, true)]);
    }
}
