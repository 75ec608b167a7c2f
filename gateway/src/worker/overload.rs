//! What a worker gives up when it has more to do than it can, the cheapest first, so that what it goes on
//! doing is done in time. Pure: what is measured and when is told.
//!
//! Three things run out, and each is helped by something else. **Sockets**: connections that wait between
//! requests give theirs back. **Memory** (buffers lent to responses that nobody takes): those responses are cut,
//! since idle connections hold none. **Time** (the event loop is late): only less work helps, and ending kept
//! connections would make more of it. The last step, always, is to answer requests with 503.

use super::TICK;

/// What is given up. A step costs clients more than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Responses that their clients have not taken a byte of for [`STALLED_TICKS`] are cut.
    Stalled,
    /// Connections that have waited for a request for [`IDLE_TICKS`] are closed.
    Idle,
    /// Responses say that their connection closes.
    Keepalive,
    /// New connections are closed.
    Connections,
    /// New requests are answered with 503.
    Requests,
}

impl Step {
    pub const ALL: [Self; 5] =
        [Self::Stalled, Self::Idle, Self::Keepalive, Self::Connections, Self::Requests];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled_responses",
            Self::Idle => "idle_connections",
            Self::Keepalive => "keepalive",
            Self::Connections => "new_connections",
            Self::Requests => "new_requests",
        }
    }
}

/// Long against a client's round trip, short against the minute that it has otherwise.
pub const STALLED_TICKS: u32 = ticks(5_000);
/// A client that asks more often than this is one that comes back at once.
pub const IDLE_TICKS: u32 = ticks(1_000);

const fn ticks(millis: u128) -> u32 {
    (millis / TICK.as_millis()) as u32
}

/// Steps that are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shedding(u8);

impl Shedding {
    pub fn has(self, step: Step) -> bool {
        self.0 & 1 << step as u8 != 0
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    fn with(self, step: Step) -> Self {
        Self(self.0 | 1 << step as u8)
    }

    pub fn steps(self) -> impl Iterator<Item = Step> {
        Step::ALL.into_iter().filter(move |step| self.has(*step))
    }
}

/// What one tick has measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Connections, in thousandths of what the worker may have.
    pub sockets: u32,
    /// Lent buffers, in thousandths of the worker's part of the budget.
    pub memory: u32,
    /// How late the event loop was by work of its own, in milliseconds.
    pub lag: u32,
}

#[derive(Debug)]
struct Rule {
    step: Step,
    of: fn(&Load) -> u32,
    /// From which on the step is taken.
    enter: u32,
    /// For how many ticks in a row.
    hold: u32,
}

/// The event loop has to be late three ticks in a row: one long piece of work, such as taking a large table
/// up, is over before anything that is given up could help.
const LATE_TICKS: u32 = 3;
/// A tick is 100 ms: the loop is at a third of its speed.
const LATE: u32 = 200;
/// Clients begin to give up and to ask again, which makes it worse.
const TOO_LATE: u32 = 1_000;

const RULES: [Rule; 8] = [
    // A twentieth of the sockets is what a busy second takes; nginx begins at a sixteenth.
    Rule { step: Step::Idle, of: |load| load.sockets, enter: 950, hold: 1 },
    Rule { step: Step::Keepalive, of: |load| load.sockets, enter: 980, hold: 1 },
    Rule { step: Step::Stalled, of: |load| load.memory, enter: 700, hold: 1 },
    Rule { step: Step::Keepalive, of: |load| load.memory, enter: 800, hold: 1 },
    Rule { step: Step::Connections, of: |load| load.memory, enter: 900, hold: 1 },
    Rule { step: Step::Requests, of: |load| load.memory, enter: 1_000, hold: 1 },
    Rule { step: Step::Connections, of: |load| load.lag, enter: LATE, hold: LATE_TICKS },
    Rule { step: Step::Requests, of: |load| load.lag, enter: TOO_LATE, hold: LATE_TICKS },
];

/// A step is taken back when the load has been below four fifths of what it was taken at for a second: a load
/// that hovers would otherwise turn it on and off.
const CALM_TICKS: u32 = ticks(1_000);

fn is_calm(value: u32, enter: u32) -> bool {
    value < enter / 5 * 4
}

/// One rule's state.
#[derive(Debug, Clone, Copy, Default)]
struct Latch {
    is_on: bool,
    /// Ticks in a row that speak for the other state.
    against: u32,
}

impl Latch {
    fn update(&mut self, rule: &Rule, load: &Load) -> bool {
        let value = (rule.of)(load);
        let (speaks_against, enough) = if self.is_on {
            (is_calm(value, rule.enter), CALM_TICKS)
        } else {
            (value >= rule.enter, rule.hold)
        };
        self.against = if speaks_against { self.against + 1 } else { 0 };
        if self.against >= enough {
            *self = Self { is_on: !self.is_on, against: 0 };
        }
        self.is_on
    }
}

#[derive(Debug, Default)]
pub struct Overload([Latch; RULES.len()]);

impl Overload {
    /// What is given up from now on; to be asked once per tick.
    pub fn update(&mut self, load: &Load) -> Shedding {
        let latches = self.0.iter_mut().zip(&RULES);
        latches.fold(Shedding::default(), |shedding, (latch, rule)| {
            if latch.update(rule, load) { shedding.with(rule.step) } else { shedding }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads() -> impl Strategy<Value = Vec<Load>> {
        let load = (0u32..1_200, 0u32..1_200, 0u32..2_000);
        proptest::collection::vec(
            load.prop_map(|(sockets, memory, lag)| Load { sockets, memory, lag }),
            0..200,
        )
    }

    proptest! {
        #[test]
        fn nothing_is_given_up_while_there_is_enough(loads in loads()) {
            let mut overload = Overload::default();
            for load in loads {
                let enough =
                    Load { sockets: load.sockets % 950, memory: load.memory % 700, lag: load.lag % LATE };
                prop_assert!(overload.update(&enough).is_none());
            }
        }

        #[test]
        fn the_dearer_step_is_never_taken_without_the_cheaper_ones(loads in loads()) {
            let mut overload = Overload::default();
            for load in loads {
                let memory = overload.update(&Load { memory: load.memory, ..Load::default() });
                let order = [Step::Requests, Step::Connections, Step::Keepalive, Step::Stalled];
                for pair in order.windows(2) {
                    prop_assert!(!memory.has(pair[0]) || memory.has(pair[1]), "{memory:?}");
                }
            }
        }

        #[test]
        fn whatever_happened_a_second_of_calm_ends_it(loads in loads()) {
            let mut overload = Overload::default();
            for load in &loads {
                overload.update(load);
            }
            let mut last = Shedding::default();
            (0..CALM_TICKS).for_each(|_| last = overload.update(&Load::default()));
            prop_assert!(last.is_none());
        }
    }

    #[test]
    fn one_long_piece_of_work_is_no_overload() {
        let mut overload = Overload::default();
        let late = Load { lag: 5_000, ..Load::default() };
        for _ in 1..LATE_TICKS {
            assert!(overload.update(&late).is_none());
        }
        assert!(overload.update(&Load::default()).is_none());
        for _ in 1..LATE_TICKS {
            overload.update(&late);
        }
        let shedding = overload.update(&late);
        assert_eq!(shedding.steps().collect::<Vec<_>>(), [Step::Connections, Step::Requests]);
    }

    #[test]
    fn a_load_that_hovers_does_not_turn_a_step_on_and_off() {
        let mut overload = Overload::default();
        assert!(overload.update(&Load { memory: 1_000, ..Load::default() }).has(Step::Requests));
        for tick in 0..100 {
            let memory = if tick % 2 == 0 { 850 } else { 990 };
            assert!(overload.update(&Load { memory, ..Load::default() }).has(Step::Requests));
        }
    }
}
