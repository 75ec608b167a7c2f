//! Several gateways, their kernels, a network and a registry, in one thread and with one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::faults::{FAULTS_END, TimedFault};
use super::node::Node;
use crate::config::{Mode, NFT_LATENESS, shortest_grace};
use crate::identity::{BootId, GatewayId};
use crate::lease::Entry;
use crate::machine::{Action, Conditions, Event, Timing, Wish, WriteOutcome};
use crate::register::{Register, Versioned};

/// What the world and the machines heed.
#[derive(Debug, Clone)]
pub struct Rules {
    pub nodes: usize,
    pub mode: Mode,
    pub conditions: Conditions,
    /// The kernel closes the fence when the lease ends.
    pub kernel_fence: bool,
    /// The guard of a process that has ended closes the fence before it tells of the end.
    pub guard_closes_first: bool,
    /// The registry compares before it sets.
    pub compare: bool,
    /// Clocks run while a process is frozen and its kernel forwards.
    pub clocks_run: bool,
    pub freezes: bool,
    pub trace: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            nodes: 3,
            mode: Mode::Peer,
            conditions: Conditions::ALL,
            kernel_fence: true,
            guard_closes_first: true,
            compare: true,
            clocks_run: true,
            freezes: true,
            trace: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Fine {
        turns: u64,
        takeovers: u64,
    },
    TwoHolders {
        at: Duration,
        new: usize,
        old: usize,
    },
    /// Nobody holds long after the last fault.
    NoHolder,
}

/// Answers of the registry that take longer are unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

pub fn timing() -> Timing {
    let lease = Duration::from_millis(300);
    let grace = shortest_grace(lease, NFT_LATENESS);
    Timing::new(lease, grace, Duration::from_secs(1), Duration::from_secs(3), NFT_LATENESS)
}

/// Real time since the beginning, in nanoseconds.
pub type Real = u64;

#[derive(Debug, Clone)]
pub enum What {
    Wake {
        node: usize,
        boot: u64,
    },
    Thaw {
        node: usize,
    },
    Restart {
        node: usize,
    },
    /// The guard has seen the end of that run.
    Guard {
        node: usize,
        boot: u64,
    },
    /// To a process, by the network or the registry's client.
    Tell {
        node: usize,
        boot: Option<u64>,
        event: Event,
    },
    WriteArrives {
        node: usize,
        boot: u64,
        request: u64,
        register: Register,
        expected: Option<u64>,
        timeout: Real,
    },
    ReadArrives {
        node: usize,
        boot: u64,
        request: u64,
        timeout: Real,
    },
    Fault(usize),
    Eligible {
        node: usize,
    },
    LinkHeals {
        node: usize,
    },
}

pub struct World<'a> {
    pub rules: &'a Rules,
    pub rng: Rng,
    pub now: Real,
    order: u64,
    queue: BTreeMap<(Real, u64), What>,
    pub nodes: Vec<Node>,
    faults: &'a [TimedFault],
    /// Until when messages from one to another are lost.
    pub cut: Vec<Vec<Real>>,
    pub registry_cut: Vec<Real>,
    pub slow_registry: Real,
    pub slow_network: Real,
    pub echo: Real,
    loss: f64,
    register: Option<Versioned>,
    version: u64,
    pub found: Option<Outcome>,
    turns: u64,
    takeovers: u64,
}

pub fn name(node: usize) -> GatewayId {
    GatewayId::parse(["a", "b", "c", "d", "e"][node]).unwrap()
}

fn index(name: &GatewayId) -> usize {
    usize::from(name.as_str().as_bytes()[0] - b'a')
}

pub fn boot_id(node: usize, boot: u64) -> BootId {
    let number = (node as u128 + 1) << 64 | u128::from(boot);
    BootId::from_bytes(number.to_be_bytes())
}

pub fn real(duration: Duration) -> Real {
    u64::try_from(duration.as_nanos()).unwrap()
}

impl<'a> World<'a> {
    pub fn run(seed: u64, rules: &'a Rules, faults: &'a [TimedFault]) -> Outcome {
        let mut world = Self::new(seed, rules, faults);
        let bound = real(FAULTS_END) + real(timing().hold_grace) * 2 + 8_000_000_000;
        let mut last_gap = 0;
        while let Some(((at, _), what)) = world.queue.pop_first() {
            world.now = at;
            if world.holders(at).next().is_none() {
                last_gap = at;
            }
            if at > bound || world.found.is_some() {
                break;
            }
            world.happen(what);
        }
        let fine = Outcome::Fine { turns: world.turns, takeovers: world.takeovers };
        // The last of them is a second long and without a gap.
        let settled = last_gap + 1_000_000_000 < bound;
        world.found.unwrap_or(if settled { fine } else { Outcome::NoHolder })
    }

    fn new(seed: u64, rules: &'a Rules, faults: &'a [TimedFault]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let nodes = (0..rules.nodes).map(|node| Node::new(node, rules, &mut rng)).collect::<Vec<_>>();
        let count = rules.nodes;
        let loss = [0.0, 0.0, 0.02, 0.2][rng.usize(0..4)];
        let mut world = Self {
            rules,
            rng,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            nodes,
            faults,
            cut: vec![vec![0; count]; count],
            registry_cut: vec![0; count],
            slow_registry: 0,
            slow_network: 0,
            echo: 0,
            loss,
            register: None,
            version: 100,
            found: None,
            turns: 0,
            takeovers: 0,
        };
        for node in 0..count {
            let at = world.rng.u64(0..50_000_000);
            world.at(at, What::Restart { node });
        }
        for (number, fault) in faults.iter().enumerate() {
            world.at(real(fault.at), What::Fault(number));
        }
        world
    }

    pub fn at(&mut self, at: Real, what: What) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), what);
    }

    fn holders(&self, at: Real) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |node| self.nodes[*node].answers_until > at)
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Wake { node, boot } => {
                if self.nodes[node].wake == Some(self.now) && self.nodes[node].boot == boot {
                    self.nodes[node].wake = None;
                    self.tell(node, Event::Turn);
                }
            }
            What::Thaw { node } => self.thaw(node),
            What::Restart { node } => self.restart(node),
            What::Guard { node, boot } => self.guard(node, boot),
            What::Tell { node, boot, event } => {
                if boot.is_none_or(|boot| boot == self.nodes[node].boot) {
                    self.tell(node, event);
                }
            }
            What::WriteArrives { node, boot, request, register, expected, timeout } => {
                self.write(node, boot, request, register, expected, timeout);
            }
            What::ReadArrives { node, boot, request, timeout } => {
                let found = Some(self.register.clone().map(Entry::Register));
                let event = Event::Read { request, found };
                self.answer(node, boot, event, Event::read_failed(request), timeout);
            }
            What::Fault(number) => self.strike(self.faults[number].fault),
            What::Eligible { node } => self.tell(node, Event::Wish(Wish::Hold)),
            What::LinkHeals { node } => {
                let entry = self.register.clone().map(Entry::Register);
                self.tell(node, Event::Watched(entry));
            }
        }
    }

    fn restart(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].start(now, self.rules);
        // Starting sweeps what an earlier run left.
        self.nodes[node].answers_until = 0;
        self.tell(node, Event::Wish(Wish::Hold));
        let peers = (0..self.nodes.len()).filter(|peer| *peer != node).map(name).collect::<BTreeSet<_>>();
        let rank = u32::try_from(node).unwrap();
        let surroundings = crate::machine::Surroundings { peers: Arc::new(peers), successor: true, rank };
        self.tell(node, Event::Surroundings(surroundings));
        let entry = self.register.clone().map(Entry::Register);
        self.tell(node, Event::Watched(entry));
    }

    /// It knows one fence, whichever run has opened it since, and tells each of the others.
    fn guard(&mut self, node: usize, boot: u64) {
        if self.rules.guard_closes_first {
            self.nodes[node].answers_until = 0;
        }
        let event = Event::Ended { from: name(node), boot: boot_id(node, boot) };
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            self.send(node, peer, &event);
        }
    }

    fn thaw(&mut self, node: usize) {
        if self.nodes[node].frozen_until != Some(self.now) {
            return;
        }
        self.nodes[node].thaw(self.now, self.rules);
        let rest = std::mem::take(&mut self.nodes[node].undone);
        self.perform(node, rest);
        self.pump(node);
    }

    /// An event reaches a process: at once, or when it runs again.
    fn tell(&mut self, node: usize, event: Event) {
        if !self.nodes[node].runs() {
            return;
        }
        self.nodes[node].inbox.push_back(event);
        self.pump(node);
    }

    fn pump(&mut self, node: usize) {
        while self.found.is_none() && self.nodes[node].frozen_until.is_none() {
            let Some(event) = self.nodes[node].inbox.pop_front() else { break };
            self.turns += 1;
            let now = self.nodes[node].clock(self.now);
            let Some(machine) = &mut self.nodes[node].machine else { return };
            if self.rules.trace && !matches!(event, Event::Turn) {
                println!("{:9.3} {} < {event:?}", self.now as f64 / 1e6, name(node));
            }
            let actions = machine.handle(now, event);
            self.perform(node, actions.into());
        }
        self.schedule_wake(node);
    }

    fn schedule_wake(&mut self, node: usize) {
        let (now, frozen) = (self.now, self.nodes[node].frozen_until.is_some());
        let this = &mut self.nodes[node];
        let Some(wake) = this.machine.as_ref().and_then(|machine| machine.next_wake()) else { return };
        if frozen {
            return;
        }
        let at = this.real_of(wake).max(now + 1);
        // A wake that is due again and again and does nothing would keep a processor busy.
        this.overdue = if at == now + 1 { this.overdue + 1 } else { 0 };
        let heeds = self.rules.conditions.deadline_comes_first;
        assert!(this.overdue < 100 || !heeds, "a turn leaves what it should have done: {:#?}", this.machine);
        if this.wake != Some(at) {
            this.wake = Some(at);
            let boot = this.boot;
            self.at(at, What::Wake { node, boot });
        }
    }

    fn perform(&mut self, node: usize, mut actions: VecDeque<Action>) {
        while let Some(action) = actions.pop_front() {
            if self.found.is_some() {
                return;
            }
            if let Some(lasts) = self.nodes[node].freeze_next.take() {
                actions.push_front(action);
                self.nodes[node].undone = actions;
                self.freeze(node, lasts);
                return;
            }
            if self.rules.trace {
                println!("{:9.3} {} > {action:?}", self.now as f64 / 1e6, name(node));
            }
            if let Some(failure) = self.perform_one(node, action) {
                self.nodes[node].inbox.push_front(failure);
                for undone in actions.drain(..).rev() {
                    match undone {
                        Action::Write { request, .. } => self.nodes[node]
                            .inbox
                            .push_back(Event::Written { request, outcome: WriteOutcome::NotDone }),
                        Action::Read { request } => {
                            self.nodes[node].inbox.push_back(Event::read_failed(request));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    pub fn freeze(&mut self, node: usize, lasts: Real) {
        let until = self.now + lasts;
        self.nodes[node].freeze(self.now, until);
        self.at(until, What::Thaw { node });
    }

    /// The failure to tell of, if it is one.
    fn perform_one(&mut self, node: usize, action: Action) -> Option<Event> {
        let boot = self.nodes[node].boot;
        match action {
            Action::Hold { until } => return self.hold(node, self.nodes[node].real_of(until)),
            Action::Drop { .. } => {
                if std::mem::take(&mut self.nodes[node].drop_fails) {
                    return Some(Event::DropFailed);
                }
                self.nodes[node].answers_until = 0;
            }
            Action::Announce => {}
            Action::Read { request } => {
                let timeout = self.now + real(REQUEST_TIMEOUT);
                match self.request_arrival(node) {
                    Some(at) => self.at(at, What::ReadArrives { node, boot, request, timeout }),
                    None => self.fail(node, boot, Event::read_failed(request), timeout),
                }
            }
            Action::Write { request, register, expected } => {
                let timeout = self.now + real(REQUEST_TIMEOUT);
                self.send_write(node, request, register, expected, timeout);
            }
            Action::Heartbeat { to, epoch, seq } => {
                let event = Event::Heartbeat { from: name(node), boot: boot_id(node, boot), epoch, seq };
                self.send(node, index(&to), &event);
            }
            Action::Grant { to, boot, epoch, seq } => {
                self.send(node, index(&to), &Event::Granted { from: name(node), boot, epoch, seq });
            }
            Action::Refuse { to, epoch, .. } => self.send(node, index(&to), &Event::Refused { epoch }),
        }
        None
    }

    /// The moment at which two could hold.
    fn hold(&mut self, node: usize, until: Real) -> Option<Event> {
        let began = self.nodes[node].answers_until <= self.now;
        if std::mem::take(&mut self.nodes[node].hold_fails) || until <= self.now {
            return Some(Event::HoldFailed);
        }
        let other = self.holders(self.now).find(|other| *other != node);
        if let Some(old) = other {
            let at = Duration::from_nanos(self.now);
            self.found = Some(Outcome::TwoHolders { at, new: node, old });
        }
        let late = if self.rng.bool() { real(NFT_LATENESS) } else { self.rng.u64(0..real(NFT_LATENESS)) };
        self.takeovers += u64::from(began);
        self.nodes[node].answers_until = if self.rules.kernel_fence { until + late } else { Real::MAX };
        None
    }

    fn send(&mut self, from: usize, to: usize, event: &Event) {
        let echoes = self.now < self.echo;
        let copies = if echoes || self.rng.f64() < 0.03 { 2 } else { 1 };
        for copy in 0..copies {
            let lost = self.now < self.cut[from][to] || self.rng.f64() < self.loss;
            let late = (self.now < self.slow_network && !echoes) || copy > 0;
            let delay = if late && (echoes || self.rng.bool()) {
                self.rng.u64(1_000_000..3_000_000_000)
            } else {
                self.rng.u64(50_000..3_000_000)
            };
            if !lost {
                self.at(self.now + delay, What::Tell { node: to, boot: None, event: event.clone() });
            }
        }
    }

    fn registry_delay(&mut self) -> Real {
        if self.now < self.slow_registry && self.rng.u8(0..3) > 0 {
            self.rng.u64(1_000_000..2_500_000_000)
        } else {
            self.rng.u64(300_000..8_000_000)
        }
    }

    fn request_arrival(&mut self, node: usize) -> Option<Real> {
        let delay = self.registry_delay();
        if self.now >= self.registry_cut[node] {
            return Some(self.now + delay);
        }
        // Lost on the way, or waiting in a queue until the way is open again.
        self.rng.bool().then_some(self.registry_cut[node] + delay)
    }

    fn send_write(
        &mut self,
        node: usize,
        request: u64,
        register: Register,
        expected: Option<u64>,
        timeout: Real,
    ) {
        let boot = self.nodes[node].boot;
        if self.now < self.registry_cut[node] && self.rng.u8(0..3) == 0 {
            let event = Event::Written { request, outcome: WriteOutcome::NotDone };
            let at = self.now + self.rng.u64(100_000..5_000_000);
            self.at(at, What::Tell { node, boot: Some(boot), event });
            return;
        }
        match self.request_arrival(node) {
            Some(at) => {
                self.at(at, What::WriteArrives { node, boot, request, register, expected, timeout });
            }
            None => {
                let event = Event::Written { request, outcome: WriteOutcome::Unknown };
                self.fail(node, boot, event, timeout);
            }
        }
    }

    fn write(
        &mut self,
        node: usize,
        boot: u64,
        request: u64,
        register: Register,
        expected: Option<u64>,
        timeout: Real,
    ) {
        let present = self.register.as_ref().map(|versioned| versioned.version);
        let outcome = if !self.rules.compare || present == expected {
            self.version += self.rng.u64(1..3);
            let versioned = Versioned { version: self.version, register };
            self.register = Some(versioned.clone());
            self.notify(&versioned);
            WriteOutcome::Done(self.version)
        } else {
            WriteOutcome::Conflict
        };
        let unknown = Event::Written { request, outcome: WriteOutcome::Unknown };
        self.answer(node, boot, Event::Written { request, outcome }, unknown, timeout);
    }

    fn notify(&mut self, versioned: &Versioned) {
        for node in 0..self.nodes.len() {
            if self.now < self.registry_cut[node] {
                continue;
            }
            let at = self.now + self.registry_delay();
            let event = Event::Watched(Some(Entry::Register(versioned.clone())));
            self.at(at, What::Tell { node, boot: None, event });
        }
    }

    /// The answer, or what stands for it when it comes too late or not at all.
    fn answer(&mut self, node: usize, boot: u64, answer: Event, failure: Event, timeout: Real) {
        let at = self.now + self.registry_delay();
        if self.now < self.registry_cut[node] || at > timeout {
            self.fail(node, boot, failure, timeout);
        } else {
            self.at(at, What::Tell { node, boot: Some(boot), event: answer });
        }
    }

    fn fail(&mut self, node: usize, boot: u64, failure: Event, timeout: Real) {
        self.at(timeout, What::Tell { node, boot: Some(boot), event: failure });
    }
}
