//! From single probes to a state: pure, without time and without I/O.

/// What probes have established of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// No probe has answered yet. Counts as up: a new endpoint takes traffic at once, and one that is
    /// not probed at all always does.
    #[default]
    Unknown,
    Up,
    Down,
}

impl State {
    /// Whether requests may go there.
    pub fn is_up(self) -> bool {
        self != Self::Down
    }

    /// The word in reports, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A change of state that one probe completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub from: State,
    /// Never [`State::Unknown`].
    pub to: State,
}

/// How many probes in a row change the state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thresholds {
    rise: u32,
    fall: u32,
}

impl Thresholds {
    /// A threshold of 0 would be met before any probe: it means 1.
    pub(crate) fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1) }
    }
}

/// The state, and the probes in a row that may change it. At most one of the two counts is above 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdict {
    state: State,
    passes: u32,
    failures: u32,
}

impl Verdict {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Passes since the last failure.
    pub(crate) fn consecutive_passes(&self) -> u32 {
        self.passes
    }

    /// Failures since the last pass.
    pub(crate) fn consecutive_failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn observe(&mut self, passed: bool, thresholds: Thresholds) -> Option<Transition> {
        if passed {
            (self.passes, self.failures) = (self.passes.saturating_add(1), 0);
        } else {
            (self.passes, self.failures) = (0, self.failures.saturating_add(1));
        }
        let to = self.wanted(passed, thresholds);
        let from = std::mem::replace(&mut self.state, to);
        (from != to).then_some(Transition { from, to })
    }

    /// Keeps the state and has one probe decide whether it still holds.
    pub(crate) fn doubt(&mut self, thresholds: Thresholds) {
        self.restart_count();
        match self.state {
            State::Unknown => {}
            State::Up => self.failures = thresholds.fall - 1,
            State::Down => self.passes = thresholds.rise - 1,
        }
    }

    fn wanted(&self, passed: bool, thresholds: Thresholds) -> State {
        match self.state {
            // A new endpoint has no record that one probe could be an exception to.
            State::Unknown if passed => State::Up,
            State::Unknown => State::Down,
            State::Up if self.failures >= thresholds.fall => State::Down,
            State::Down if self.passes >= thresholds.rise => State::Up,
            unchanged => unchanged,
        }
    }

    /// Keeps the state and forgets the run that led to it: the probes to come are of another kind.
    pub(crate) fn restart_count(&mut self) {
        (self.passes, self.failures) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
