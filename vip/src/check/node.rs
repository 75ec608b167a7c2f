//! One gateway of the simulated world: a process, its clock, and what its kernel answers for.

use std::collections::VecDeque;

use fastrand::Rng;

use super::faults::Fault;
use super::world::{Real, Rules, What, World, boot_id, name, real, timing};
use crate::config::CLOCK_ERROR_PERCENT;
use crate::machine::{Action, DropReason, Event, Machine, Wish};
use crate::moment::Moment;

pub struct Node {
    number: usize,
    pub machine: Option<Machine>,
    pub boot: u64,
    /// Parts per million that its clock is fast.
    drift: i64,
    offset: u64,
    /// Real time that its clock has not seen.
    stood: Real,
    /// Since when the process is frozen, and until when.
    frozen_since: Real,
    pub frozen_until: Option<Real>,
    /// It will freeze before the next action.
    pub freeze_next: Option<Real>,
    pub undone: VecDeque<Action>,
    pub inbox: VecDeque<Event>,
    pub wake: Option<Real>,
    /// Turns in a row after which the next one was due at once.
    pub overdue: u32,
    /// The kernel answers for the address until then, whatever the process does.
    pub answers_until: Real,
    pub hold_fails: bool,
    pub drop_fails: bool,
}

impl Node {
    pub fn new(number: usize, _rules: &Rules, rng: &mut Rng) -> Self {
        let most = i64::from(CLOCK_ERROR_PERCENT) * 10_000;
        let drift = [-most, most, 0, rng.i64(-most..most)][rng.usize(0..4)];
        Self {
            number,
            machine: None,
            boot: 0,
            drift,
            offset: rng.u64(0..1_000_000_000_000),
            stood: 0,
            frozen_since: 0,
            frozen_until: None,
            freeze_next: None,
            undone: VecDeque::new(),
            inbox: VecDeque::new(),
            wake: None,
            overdue: 0,
            answers_until: 0,
            hold_fails: false,
            drop_fails: false,
        }
    }

    pub fn runs(&self) -> bool {
        self.machine.is_some()
    }

    pub fn start(&mut self, now: Real, rules: &Rules) {
        self.boot += 1;
        (self.frozen_until, self.freeze_next, self.wake) = (None, None, None);
        self.undone.clear();
        self.inbox.clear();
        let machine = Machine::new(
            name(self.number),
            boot_id(self.number, self.boot),
            rules.mode,
            timing(),
            self.clock(now),
        );
        self.machine = Some(machine.heeding(rules.conditions));
    }

    fn crash(&mut self) {
        self.machine = None;
        (self.frozen_until, self.freeze_next, self.wake) = (None, None, None);
        self.undone.clear();
        self.inbox.clear();
    }

    pub fn freeze(&mut self, now: Real, until: Real) {
        if self.frozen_until.is_none() {
            self.frozen_since = now;
        }
        self.frozen_until = Some(until.max(self.frozen_until.unwrap_or(0)));
    }

    pub fn thaw(&mut self, now: Real, rules: &Rules) {
        self.frozen_until = None;
        if !rules.clocks_run {
            let stood = now - self.frozen_since;
            self.stood += stood;
            // The fence is on the same clock.
            if self.answers_until > self.frozen_since {
                self.answers_until = self.answers_until.saturating_add(stood);
            }
        }
    }

    pub fn clock(&self, now: Real) -> Moment {
        let ran = i128::from(now - self.stood);
        let shown = ran + ran * i128::from(self.drift) / 1_000_000;
        Moment::from_nanos(self.offset + u64::try_from(shown).unwrap())
    }

    /// The first real moment at which the clock shows `moment`, if it is not stopped before.
    pub fn real_of(&self, moment: Moment) -> Real {
        let shown = i128::from(moment.as_nanos().saturating_sub(self.offset));
        let ran = (shown * 1_000_000).div_euclid(1_000_000 + i128::from(self.drift)) + 1;
        u64::try_from(ran).unwrap() + self.stood
    }
}

impl World<'_> {
    pub fn strike(&mut self, fault: Fault) {
        if self.rules.trace {
            println!("{:9.3} ! {fault:?}", self.now as f64 / 1e6);
        }
        let until = |lasts| self.now + real(lasts);
        match fault {
            Fault::Freeze { node, lasts, within_turn } => self.freeze_by(node, real(lasts), within_turn),
            Fault::Crash { node, down } => {
                if self.nodes[node].runs() {
                    self.nodes[node].crash();
                    self.at(self.now + real(down), What::Restart { node });
                    self.rouse_guard(node);
                }
            }
            Fault::Cut { from, to, lasts } => self.cut[from][to] = until(lasts),
            Fault::Isolate { node, lasts } => self.isolate(node, until(lasts)),
            Fault::CutRegistry { node, lasts } => self.cut_registry(node, until(lasts)),
            Fault::StopRegistry { lasts } => {
                let until = until(lasts);
                (0..self.nodes.len()).for_each(|node| self.cut_registry(node, until));
            }
            Fault::SlowRegistry { lasts } => self.slow_registry = until(lasts),
            Fault::SlowNetwork { lasts } => self.slow_network = until(lasts),
            Fault::Echo { lasts } => self.echo = until(lasts),
            Fault::Ineligible { node, lasts } => {
                let back = until(lasts);
                self.deliver(node, Event::Wish(Wish::Yield));
                self.at(back, What::Eligible { node });
            }
            Fault::HandOver { node, to } => {
                let event = Event::HandOver { successor: Some(name(to)), why: DropReason::Moved };
                self.deliver(node, event);
            }
            Fault::HoldFails { node } => self.nodes[node].hold_fails = true,
            Fault::DropFails { node } => self.nodes[node].drop_fails = true,
            Fault::Contested { node } => self.deliver(node, Event::Contested),
        }
    }

    /// It is gone as well, at once there, or late.
    fn rouse_guard(&mut self, node: usize) {
        let late = match self.rng.u8(0..4) {
            0 => return,
            1 => self.rng.u64(0..4_000_000_000),
            _ => self.rng.u64(100_000..20_000_000),
        };
        let boot = self.nodes[node].boot;
        self.at(self.now + late, What::Guard { node, boot });
    }

    fn deliver(&mut self, node: usize, event: Event) {
        self.at(self.now, What::Tell { node, boot: None, event });
    }

    fn freeze_by(&mut self, node: usize, lasts: Real, within_turn: bool) {
        if !self.rules.freezes || !self.nodes[node].runs() || self.nodes[node].frozen_until.is_some() {
            return;
        }
        if within_turn {
            self.nodes[node].freeze_next = Some(lasts);
        } else {
            self.freeze(node, lasts);
        }
    }

    fn isolate(&mut self, node: usize, until: Real) {
        for other in 0..self.nodes.len() {
            self.cut[node][other] = until;
            self.cut[other][node] = until;
        }
        self.cut_registry(node, until);
    }

    fn cut_registry(&mut self, node: usize, until: Real) {
        self.registry_cut[node] = until;
        self.at(until, What::LinkHeals { node });
    }
}
