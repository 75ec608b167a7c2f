//! What the registered holder does: counts its lease, asks for grants, keeps the register.

use super::register::Contents;
use super::{Action, DropReason, Machine, PLATFORM_PAUSE, Wish};
use crate::config::Mode;
use crate::identity::{BootId, GatewayId};
use crate::moment::Moment;
use crate::register::{MAX_GRANTORS, Register};

/// Heartbeats whose grants still count. The oldest is far older than a lease.
const MAX_BEATS: usize = 16;

/// The platform was told to stop and could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stuck {
    /// Its fence closes by then.
    pub until: Moment,
    pub retry_at: Moment,
}

impl Machine {
    /// When the lease ends: the earliest end under any register that may be in force.
    pub(super) fn lease_end(&self) -> Moment {
        let Some(register) = self.registered() else { return Moment::START };
        let conditions = &self.conditions;
        let mut ends = Vec::with_capacity(1 + self.attempts.len());
        if conditions.unknown_writes_need_old_grantors || self.attempts.is_empty() {
            ends.push(self.lease_under(register, self.known.written));
        }
        for attempt in &self.attempts {
            let register = &attempt.register;
            let counts = if register.released {
                conditions.letting_go_precedes_release
            } else if register.grantors.is_empty() {
                conditions.registry_mode_needs_writes
            } else {
                conditions.unknown_writes_need_new_grantors
            };
            if counts {
                ends.push(self.lease_under(register, attempt.sent));
            }
        }
        ends.into_iter().min().unwrap_or(Moment::START)
    }

    fn lease_under(&self, register: &Register, written: Moment) -> Moment {
        if register.released {
            return Moment::START;
        }
        if register.grantors.is_empty() {
            return written + self.timing.registry_lease;
        }
        let grants = register.grantors.iter().map(|grantor| match self.answered.get(grantor) {
            Some(sent) => *sent + self.timing.lease,
            None => Moment::START,
        });
        let granted = grants.min().unwrap_or(Moment::START);
        if self.conditions.hold_max_ends_holding {
            granted.min(written + self.timing.hold_max)
        } else {
            granted
        }
    }

    /// The deadline, before anything else is looked at.
    pub(super) fn expire(&mut self, actions: &mut Vec<Action>) {
        if self.told.is_some_and(|told| told <= self.now) {
            let reason = self.end_reason();
            self.stop(reason, actions);
        }
    }

    fn stop(&mut self, reason: DropReason, actions: &mut Vec<Action>) {
        self.told = None;
        actions.push(Action::Drop { reason });
    }

    /// Makes what the platform was told what the lease is.
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        self.unstick(actions);
        let end = self.lease_end();
        // What is over before the next heartbeat is not worth beginning.
        let least = if self.told.is_some() { self.now } else { self.now + self.timing.heartbeat };
        let may = end > least && self.now >= self.paused_until;
        let tardy = !self.conditions.deadline_comes_first && self.registered().is_some();
        if may {
            if self.told != Some(end) {
                self.told = Some(end);
                // Also where the lease became shorter: the platform may fail to be told.
                self.fence = self.fence.max(end);
                self.stuck = None;
                actions.push(Action::Hold { until: end });
            }
        } else if self.told.is_some() && !tardy {
            let reason = self.end_reason();
            self.stop(reason, actions);
        }
    }

    fn end_reason(&self) -> DropReason {
        let Some(register) = self.registered() else {
            return match self.known.contents {
                Contents::Present(_) => DropReason::Superseded,
                _ => DropReason::RegisterGone,
            };
        };
        if self.now < self.paused_until {
            return DropReason::Platform;
        }
        if let Some((_, reason)) = self.leaving() {
            return reason;
        }
        let written_out = self.known.written + self.timing.hold_max <= self.now;
        if written_out && !register.grantors.is_empty() {
            DropReason::HoldMax
        } else {
            DropReason::LeaseEnded
        }
    }

    pub(super) fn hold_failed(&mut self, actions: &mut Vec<Action>) {
        self.paused_until = self.now + PLATFORM_PAUSE;
        // Also where that turn went on to stop: it was not done.
        self.stop(DropReason::Platform, actions);
    }

    pub(super) fn drop_failed(&mut self) {
        // A wait is longer than its lease by at least what a fence is late.
        self.told = None;
        let until = self.fence + self.timing.grace.saturating_sub(self.timing.lease);
        if until > self.now {
            self.stuck = Some(Stuck { until, retry_at: self.now + self.timing.retry });
        }
    }

    fn unstick(&mut self, actions: &mut Vec<Action>) {
        let Some(stuck) = self.stuck else { return };
        if self.now >= stuck.until {
            self.stuck = None;
        } else if self.now >= stuck.retry_at {
            // Forgotten unless it fails again.
            self.stuck = None;
            actions.push(Action::Drop { reason: DropReason::Platform });
        }
    }

    /// Whether, for whom and why this holder lets go.
    pub(super) fn leaving(&self) -> Option<(Option<GatewayId>, DropReason)> {
        if let Some(handing_over) = &self.handing_over {
            return Some(handing_over.clone());
        }
        if let Some(attempt) = self.attempts.iter().find(|attempt| attempt.register.released) {
            return Some((attempt.register.successor.clone(), DropReason::Ineligible));
        }
        match self.wish {
            Wish::Leave => Some((None, DropReason::Stopped)),
            Wish::Yield if self.surroundings.successor => Some((None, DropReason::Ineligible)),
            Wish::Hold if self.now < self.paused_until && self.surroundings.successor => {
                Some((None, DropReason::Platform))
            }
            Wish::Hold | Wish::Yield => None,
        }
    }

    /// The registered holder's turn.
    pub(super) fn keep(&mut self, actions: &mut Vec<Action>) {
        self.beat(actions);
        if self.request.is_some() || self.now < self.retry_at {
            return;
        }
        if self.reread {
            self.start_read(actions);
        } else if let Some(register) = self.wanted() {
            self.note_removals(&register);
            self.start_write(register, actions);
        }
    }

    fn beat(&mut self, actions: &mut Vec<Action>) {
        if self.mode == Mode::Registry || self.now < self.next_beat {
            return;
        }
        let Some(register) = self.registered() else { return };
        let epoch = register.epoch;
        let grantors = register.grantors.iter().filter(|grantor| !self.surroundings.peers.contains(grantor));
        let targets = self.surroundings.peers.iter().chain(grantors).cloned().collect::<Vec<_>>();
        self.seq += 1;
        let seq = self.seq;
        actions.extend(targets.into_iter().map(|to| Action::Heartbeat { to, epoch, seq }));
        if self.beats.len() == MAX_BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((seq, self.now));
        self.next_beat = self.now + self.timing.heartbeat;
    }

    pub(super) fn granted(&mut self, from: GatewayId, boot: BootId, epoch: u64, seq: u64) {
        let Some(register) = self.registered() else { return };
        let named = boot == self.boot && epoch == register.epoch;
        if self.conditions.grants_name_run_and_epoch && !named {
            return;
        }
        let beat = if self.conditions.grants_answer_one_heartbeat {
            self.beats.iter().find(|(sent, _)| *sent == seq)
        } else {
            self.beats.back()
        };
        let Some((_, sent)) = beat else { return };
        let counts_from = if self.conditions.leases_count_from_sending { *sent } else { self.now };
        if from != self.me && (register.grantors.contains(&from) || self.surroundings.peers.contains(&from)) {
            let newest = self.answered.entry(from).or_insert(counts_from);
            *newest = counts_from.max(*newest);
        }
    }

    /// The register to write now, if one is.
    fn wanted(&self) -> Option<Register> {
        let current = self.registered()?;
        if let Some((successor, _)) = self.leaving() {
            // What may answer still is not released yet.
            let released = Register { released: true, successor, grantors: Vec::new(), ..current.clone() };
            return self.stuck.is_none().then_some(released);
        }
        let grantors = self.wanted_grantors(current);
        let due = self.now >= self.renewal(current);
        // Only a write that happens makes sure that earlier ones never do.
        let uncertain = !self.attempts.is_empty();
        (grantors != current.grantors || due || uncertain).then(|| Register { grantors, ..current.clone() })
    }

    fn renewal(&self, current: &Register) -> Moment {
        let every = if current.grantors.is_empty() { self.timing.renew } else { self.timing.refresh };
        self.known.written + every
    }

    fn wanted_grantors(&self, current: &Register) -> Vec<GatewayId> {
        if self.mode == Mode::Registry {
            return Vec::new();
        }
        let loud = current.grantors.iter().filter(|grantor| !self.is_silent(grantor));
        let mut grantors = loud.cloned().collect::<Vec<_>>();
        let room = MAX_GRANTORS.saturating_sub(grantors.len());
        grantors.extend(self.joiners(current).into_iter().take(room));
        grantors.sort_unstable();
        grantors
    }

    pub(super) fn is_silent(&self, grantor: &GatewayId) -> bool {
        self.answered.get(grantor).is_none_or(|sent| self.now.since(*sent) >= self.timing.silence)
    }

    /// Peers that answer and are no grantors yet: together, once all have answered or had the time to.
    fn joiners(&self, current: &Register) -> Vec<GatewayId> {
        let others = || self.surroundings.peers.iter().filter(|peer| !current.grantors.contains(peer));
        let fresh = |peer: &GatewayId| {
            let sent = self.answered.get(peer);
            sent.is_some_and(|sent| self.now.since(*sent) < self.timing.heartbeat * 2)
        };
        if self.beats.len() < 2 && !others().all(fresh) {
            return Vec::new();
        }
        let may_return = |peer: &GatewayId| {
            self.removed.get(peer).is_none_or(|at| self.now.since(*at) >= self.timing.rejoin)
        };
        others().filter(|peer| **peer != self.me && fresh(peer) && may_return(peer)).cloned().collect()
    }

    fn note_removals(&mut self, wanted: &Register) {
        let Some(current) = self.registered() else { return };
        let gone = current.grantors.iter().filter(|grantor| !wanted.grantors.contains(grantor));
        for grantor in gone.cloned().collect::<Vec<_>>() {
            self.removed.insert(grantor, self.now);
        }
        let (now, rejoin) = (self.now, self.timing.rejoin);
        self.removed.retain(|_, at| now.since(*at) < rejoin);
    }

    pub(super) fn next_work(&self) -> Option<Moment> {
        let current = self.registered()?;
        let beat = (self.mode == Mode::Peer).then_some(self.next_beat);
        if self.request.is_some() {
            return beat;
        }
        let silences = current
            .grantors
            .iter()
            .filter_map(|grantor| self.answered.get(grantor).map(|sent| *sent + self.timing.silence));
        let silence = silences.filter(|at| *at > self.now).min();
        let leaves = self.leaving().is_some();
        let request = if self.reread {
            Some(self.retry_at)
        } else if leaves && self.stuck.is_some() {
            // What may answer still is not released yet.
            None
        } else if leaves || !self.attempts.is_empty() {
            Some(self.retry_at)
        } else {
            Some(self.renewal(current).max(self.retry_at))
        };
        [beat, silence, request].into_iter().flatten().min()
    }
}
