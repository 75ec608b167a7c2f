//! Every order of events, up to a depth: two gateways in coarse time, where any process may stand still for as long as it
//! likes, any message and any request may wait, be lost or be repeated, and each may restart.
//!
//! Clocks agree here and fences close in time; drift and lateness are what the simulation is for.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::world::{boot_id, name};
use crate::config::Mode;
use crate::lease::Entry;
use crate::machine::{
    Action, Conditions, DropReason, Event, Machine, Surroundings, Timing, Wish, WriteOutcome,
};
use crate::moment::Moment;
use crate::register::{Register, Versioned};

const NODES: usize = 2;
/// Messages on the way; further ones are lost.
const MAX_MESSAGES: usize = 3;

/// In ticks.
fn timing() -> Timing {
    let ticks = Duration::from_nanos;
    Timing {
        lease: ticks(3),
        grace: ticks(3),
        registry_lease: ticks(4),
        registry_grace: ticks(4),
        hold_max: ticks(12),
        hold_grace: ticks(12),
        heartbeat: ticks(1),
        silence: ticks(2),
        renew: ticks(2),
        refresh: ticks(4),
        retry: ticks(1),
        rejoin: ticks(4),
        rank_step: ticks(0),
        moves_window: ticks(0),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    node: usize,
    boot: u64,
    id: u64,
    write: Option<(Register, Option<u64>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    machines: [Machine; NODES],
    boots: [u64; NODES],
    /// The kernel answers until then.
    until: [u64; NODES],
    register: Option<Versioned>,
    requests: Vec<Request>,
    /// To which node, of which run if it matters.
    answers: Vec<(usize, u64, Event)>,
    messages: Vec<(usize, Event)>,
    /// Outcomes that may yet be lost, messages repeated, processes restarted.
    losses: u8,
    repeats: u8,
    restarts: u8,
    moves: u8,
}

/// How often each may go wrong: all at once would leave no depth.
#[derive(Debug, Clone, Copy)]
struct Budget {
    losses: u8,
    repeats: u8,
    restarts: u8,
    moves: u8,
}

const BUDGETS: [Budget; 3] = [
    Budget { losses: 2, repeats: 0, restarts: 0, moves: 0 },
    Budget { losses: 0, repeats: 1, restarts: 1, moves: 0 },
    Budget { losses: 1, repeats: 0, restarts: 0, moves: 1 },
];

#[derive(Debug, Clone)]
enum Step {
    Tick,
    Wake(usize),
    Watch(usize),
    Message(usize, bool),
    Apply(usize),
    Answer(usize),
    /// The process gives the request up; it may yet happen.
    GiveUp(usize),
    /// By command, to the other.
    HandOver(usize),
    Restart(usize),
}

fn machine(node: usize, boot: u64, now: u64, conditions: Conditions) -> Machine {
    let now = Moment::from_nanos(now);
    Machine::new(name(node), boot_id(node, boot), Mode::Peer, timing(), now).heeding(conditions)
}

fn surroundings(node: usize) -> Event {
    let peers = (0..NODES).filter(|peer| *peer != node).map(name).collect::<BTreeSet<_>>();
    Event::Surroundings(Surroundings { peers: Arc::new(peers), successor: true, rank: 0 })
}

impl State {
    /// The first holds in registry mode, and the other has seen it.
    fn held(conditions: Conditions, budget: Budget) -> Self {
        let now = 10;
        let machines = std::array::from_fn(|node| machine(node, 1, now, conditions));
        let mut state = Self {
            now,
            machines,
            boots: [1; NODES],
            until: [0; NODES],
            register: None,
            requests: Vec::new(),
            answers: Vec::new(),
            messages: Vec::new(),
            losses: budget.losses,
            repeats: budget.repeats,
            restarts: budget.restarts,
            moves: budget.moves,
        };
        // The start asks for the register; the first claims it when its wait is over.
        let mut found = false;
        for node in 0..NODES {
            found |= state.tell(node, surroundings(node));
        }
        state.answer_everything();
        state.now += 5;
        found |= state.tell(0, Event::Wish(Wish::Hold));
        state.answer_everything();
        found |= state.tell(1, Event::Wish(Wish::Hold));
        assert!(!found && state.until[0] > state.now, "the start is not what it should be: {state:#?}");
        state.answer_everything();
        let shown = state.register.clone().map(Entry::Register);
        state.tell(1, Event::Watched(shown));
        state
    }

    /// The first holds in peer mode, with a grant of the other.
    fn granted(conditions: Conditions, budget: Budget) -> Self {
        let mut state = Self::held(conditions, budget);
        let mut found = false;
        while !state.messages.is_empty() || !state.requests.is_empty() {
            while !state.messages.is_empty() {
                let (to, event) = state.messages.remove(0);
                found |= state.tell(to, event);
            }
            state.answer_everything();
        }
        let shown = state.register.clone().map(Entry::Register);
        found |= state.tell(1, Event::Watched(shown));
        let peer_mode = state.register.as_ref().is_some_and(|found| !found.register.grantors.is_empty());
        assert!(!found && peer_mode, "the start is not what it should be: {state:#?}");
        state
    }

    fn answer_everything(&mut self) {
        while !self.requests.is_empty() || !self.answers.is_empty() {
            if !self.requests.is_empty() {
                self.apply(0);
            }
            let (node, _, event) = self.answers.remove(0);
            self.tell(node, event);
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Tick];
        let moment = Moment::from_nanos(self.now);
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.next_wake().is_some_and(|wake| wake <= moment) {
                steps.push(Step::Wake(node));
            }
            let newest = self.register.as_ref().map(|register| register.version);
            if newest > machine.view().version {
                steps.push(Step::Watch(node));
            }
            if self.restarts > 0 {
                steps.push(Step::Restart(node));
            }
            if self.moves > 0 && machine.view().registered {
                steps.push(Step::HandOver(node));
            }
        }
        for index in 0..self.messages.len() {
            steps.push(Step::Message(index, false));
            if self.repeats > 0 {
                steps.push(Step::Message(index, true));
            }
        }
        steps.extend((0..self.requests.len()).map(Step::Apply));
        steps.extend((0..self.answers.len()).map(Step::Answer));
        if self.losses > 0 {
            steps.extend((0..self.requests.len()).map(Step::GiveUp));
        }
        steps
    }

    /// Whether two hold now.
    fn take(&mut self, step: &Step, conditions: Conditions) -> bool {
        match *step {
            Step::Tick => {
                self.now += 1;
                false
            }
            Step::Wake(node) => self.tell(node, Event::Turn),
            Step::Watch(node) => {
                let shown = self.register.clone().map(Entry::Register);
                self.tell(node, Event::Watched(shown))
            }
            Step::Message(index, stays) => {
                let (to, event) = if stays {
                    self.repeats -= 1;
                    self.messages[index].clone()
                } else {
                    self.messages.remove(index)
                };
                self.tell(to, event)
            }
            Step::Apply(index) => {
                self.apply(index);
                false
            }
            Step::Answer(index) => {
                let (node, boot, event) = self.answers.remove(index);
                boot == self.boots[node] && self.tell(node, event)
            }
            Step::GiveUp(index) => {
                self.losses -= 1;
                let request = &self.requests[index];
                let (node, boot, id) = (request.node, request.boot, request.id);
                let event = match request.write {
                    Some(_) => Event::Written { request: id, outcome: WriteOutcome::Unknown },
                    None => Event::read_failed(id),
                };
                boot == self.boots[node] && self.tell(node, event)
            }
            Step::HandOver(node) => {
                self.moves -= 1;
                let event = Event::HandOver { successor: Some(name(1 - node)), why: DropReason::Moved };
                self.tell(node, event)
            }
            Step::Restart(node) => {
                self.restarts -= 1;
                let ended = Event::Ended { from: name(node), boot: boot_id(node, self.boots[node]) };
                self.boots[node] += 1;
                self.until[node] = 0;
                self.send(1 - node, ended);
                self.machines[node] = machine(node, self.boots[node], self.now, conditions);
                self.tell(node, surroundings(node)) || self.tell(node, Event::Wish(Wish::Hold))
            }
        }
    }

    fn apply(&mut self, index: usize) {
        let Request { node, boot, id, write } = self.requests.remove(index);
        let present = self.register.as_ref().map(|register| register.version);
        let event = match write {
            None => Event::Read { request: id, found: Some(self.register.clone().map(Entry::Register)) },
            Some((register, expected)) if expected == present => {
                let version = present.unwrap_or(0) + 1;
                self.register = Some(Versioned { version, register });
                Event::Written { request: id, outcome: WriteOutcome::Done(version) }
            }
            Some(_) => Event::Written { request: id, outcome: WriteOutcome::Conflict },
        };
        self.answers.push((node, boot, event));
    }

    fn tell(&mut self, node: usize, event: Event) -> bool {
        let boot = self.boots[node];
        let mut two = false;
        for action in self.machines[node].handle(Moment::from_nanos(self.now), event) {
            match action {
                Action::Hold { until } => {
                    two |= (0..NODES).any(|other| other != node && self.until[other] > self.now);
                    self.until[node] = until.as_nanos();
                }
                Action::Drop { .. } => self.until[node] = 0,
                Action::Announce => {}
                Action::Read { request: id } => {
                    self.requests.push(Request { node, boot, id, write: None });
                }
                Action::Write { request: id, register, expected } => {
                    self.requests.push(Request { node, boot, id, write: Some((register, expected)) });
                }
                Action::Heartbeat { epoch, seq, .. } => {
                    self.send(
                        1 - node,
                        Event::Heartbeat { from: name(node), boot: boot_id(node, boot), epoch, seq },
                    );
                }
                Action::Grant { boot, epoch, seq, .. } => {
                    self.send(1 - node, Event::Granted { from: name(node), boot, epoch, seq });
                }
                Action::Refuse { epoch, .. } => self.send(1 - node, Event::Refused { epoch }),
            }
        }
        two
    }

    fn send(&mut self, to: usize, event: Event) {
        if self.messages.len() == MAX_MESSAGES {
            self.messages.remove(0);
        }
        self.messages.push((to, event));
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

struct Explored {
    states: usize,
    /// All states at most so many steps away have been seen.
    depth: usize,
    two_holders: Option<usize>,
}

/// Breadth first, until there are `most` states or two holders.
fn explore(start: State, conditions: Conditions, most: usize) -> Explored {
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut layer = vec![start];
    for depth in 0.. {
        let mut next = Vec::new();
        for state in &layer {
            for step in state.steps() {
                let mut after = state.clone();
                if after.take(&step, conditions) {
                    return Explored { states: seen.len(), depth, two_holders: Some(depth + 1) };
                }
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
            if seen.len() >= most {
                return Explored { states: seen.len(), depth, two_holders: None };
            }
        }
        layer = next;
    }
    unreachable!("time does not end")
}

fn most_from_environment() -> usize {
    let most = std::env::var("VIP_CHECK_STATES").ok().and_then(|text| text.parse().ok());
    most.unwrap_or(60_000)
}

type Start = fn(Conditions, Budget) -> State;

/// From both starts, with each budget.
fn explore_all(conditions: Conditions) -> impl Iterator<Item = (&'static str, Budget, Explored)> {
    let starts = [("registry mode", State::held as Start), ("peer mode", State::granted)];
    let all = starts.into_iter().flat_map(|start| BUDGETS.map(|budget| (start, budget)));
    all.map(move |((what, start), budget)| {
        (what, budget, explore(start(conditions, budget), conditions, most_from_environment()))
    })
}

#[test]
fn no_order_of_events_gives_two_holders() {
    for (start, budget, explored) in explore_all(Conditions::ALL) {
        println!(
            "from {start}, {budget:?}: {} states, every order of {} steps",
            explored.states, explored.depth
        );
        assert_eq!(explored.two_holders, None);
    }
}

/// The exploration sees what it should.
#[test]
fn exploration_finds_two_holders_where_a_condition_is_missing() {
    let all = Conditions::ALL;
    for (what, conditions) in [
        ("the wait of registry mode", Conditions { registry_mode_has_its_own_wait: false, ..all }),
        ("letting go before the release", Conditions { letting_go_precedes_release: false, ..all }),
    ] {
        let found = explore_all(conditions).find_map(|(_, _, explored)| explored.two_holders);
        println!("without {what}: two holders after {found:?} steps");
        assert!(found.is_some(), "without {what}");
    }
}
